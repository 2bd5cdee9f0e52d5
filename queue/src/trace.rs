//! W3C Trace Context (<https://www.w3.org/TR/trace-context/>) through requests and jobs: the current context is
//! task-local; `enqueue` stores it with the job, and the worker restores it around the run.

use std::fmt;
use std::future::Future;
use std::str::FromStr;

tokio::task_local! {
    static CURRENT: TraceContext;
}

/// One position in a trace: `00-<trace id>-<span id>-<flags>`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: u128,
    pub span_id: u64,
    pub flags: u8,
}

impl TraceContext {
    /// The start of a new, sampled trace.
    pub fn new_root() -> Self {
        TraceContext {
            trace_id: rand::random::<u128>().max(1),
            span_id: rand::random::<u64>().max(1),
            flags: 1,
        }
    }

    /// A new span in the same trace.
    pub fn child(self) -> Self {
        TraceContext { span_id: rand::random::<u64>().max(1), ..self }
    }

    /// The trace id as logs and history show it: 32 hexadecimal digits.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

/// The context of the running task, if it has one.
pub fn current() -> Option<TraceContext> {
    CURRENT.try_with(|context| *context).ok()
}

/// Runs `future` in `context`.
pub async fn scope<F: Future>(context: TraceContext, future: F) -> F::Output {
    CURRENT.scope(context, future).await
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl fmt::Debug for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("not a traceparent header (expected 00-<32 hex>-<16 hex>-<2 hex>)")]
pub struct InvalidTraceParent;

impl FromStr for TraceContext {
    type Err = InvalidTraceParent;

    fn from_str(s: &str) -> Result<Self, InvalidTraceParent> {
        let parts: Vec<&str> = s.trim().split('-').collect();
        let [version, trace, span, flags, ..] = parts[..] else {
            return Err(InvalidTraceParent);
        };
        let hex = |part: &str, digits: usize| {
            (part.len() == digits && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)))
                .then(|| u128::from_str_radix(part, 16).ok())
                .flatten()
                .ok_or(InvalidTraceParent)
        };
        // Version ff is forbidden; version 00 has exactly four parts (section 3.2.2).
        if hex(version, 2)? == 0xff || (version == "00" && parts.len() != 4) {
            return Err(InvalidTraceParent);
        }
        let (trace_id, span_id, flags) = (hex(trace, 32)?, hex(span, 16)? as u64, hex(flags, 2)? as u8);
        if trace_id == 0 || span_id == 0 {
            return Err(InvalidTraceParent);
        }
        Ok(TraceContext { trace_id, span_id, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let context = TraceContext::new_root();
        assert_eq!(context.to_string().parse::<TraceContext>().unwrap(), context);
        assert_eq!(context.child().trace_id, context.trace_id);
    }

    #[test]
    fn refuses_what_the_standard_forbids() {
        for bad in [
            "",
            "00-0-0-0",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        ] {
            assert!(bad.parse::<TraceContext>().is_err(), "{bad}");
        }
    }
}
