//! The few bytes of PostgreSQL's protocol (version 3.0) that are needed here: "are you ready?", and running a script on a
//! throw-away cluster, which asks for no password.
//! Source: PostgreSQL documentation, chapter "Frontend/Backend Protocol".

use crate::Error;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const VERSION_3_0: u32 = 196_608;

/// True when the server behind this socket accepts connections.
pub(crate) fn is_ready(socket: &Path, user: &str) -> bool {
    let asked = || -> io::Result<(u8, Vec<u8>)> {
        let mut stream = connect(socket, user, "postgres")?;
        read_message(&mut stream)
    };
    match asked() {
        // 57P03: "the database system is starting up". Any other refusal comes from a server that works.
        Ok((b'E', body)) => !contains(&body, b"C57P03\0"),
        Ok(_) => true,
        Err(_) => false,
    }
}

/// Runs the statements of `sql` in one implicit transaction.
pub(crate) fn run_script(socket: &Path, user: &str, database: &str, sql: &str) -> Result<(), Error> {
    let io = |source| Error::Io { what: format!("cannot talk to the database {database}"), source };
    let mut stream = connect(socket, user, database).map_err(io)?;
    stream.set_read_timeout(None).map_err(io)?;
    wait_until_idle(&mut stream)?;
    let mut message = vec![b'Q'];
    message.extend((sql.len() as u32 + 5).to_be_bytes());
    message.extend(sql.as_bytes());
    message.push(0);
    stream.write_all(&message).map_err(io)?;
    wait_until_idle(&mut stream)
}

fn connect(socket: &Path, user: &str, database: &str) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    let mut body = VERSION_3_0.to_be_bytes().to_vec();
    body.extend(format!("user\0{user}\0database\0{database}\0client_encoding\0UTF8\0\0").as_bytes());
    stream.write_all(&(body.len() as u32 + 4).to_be_bytes())?;
    stream.write_all(&body)?;
    Ok(stream)
}

/// Reads up to "ready for query"; the first error on the way is the result.
fn wait_until_idle(stream: &mut UnixStream) -> Result<(), Error> {
    let mut result = Ok(());
    loop {
        match read_message(stream) {
            Ok((b'Z', _)) => return result,
            Ok((b'E', body)) if result.is_ok() => result = Err(Error::Sql(error_text(&body))),
            Ok((b'R', body)) if body != [0, 0, 0, 0] => {
                return Err(Error::Sql(
                    "the server wants a password: scripts run on throw-away clusters only".to_owned(),
                ));
            }
            Ok(_) => {}
            Err(source) => {
                return result.and(Err(Error::Io { what: "the database hung up".to_owned(), source }));
            }
        }
    }
}

fn read_message(stream: &mut UnixStream) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]).saturating_sub(4);
    let mut body = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut body)?;
    Ok((head[0], body))
}

/// The fields of an ErrorResponse: a letter, a text, a zero byte each.
fn error_text(body: &[u8]) -> String {
    let field = |wanted: u8| {
        body.split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&wanted))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    };
    let text = field(b'M').unwrap_or_else(|| "unknown error".to_owned());
    match field(b'P') {
        Some(position) => format!("{text} (at character {position})"),
        None => text,
    }
}

fn contains(body: &[u8], wanted: &[u8]) -> bool {
    body.windows(wanted.len()).any(|part| part == wanted)
}
