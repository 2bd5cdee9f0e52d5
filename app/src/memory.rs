//! How the allocator treats large buffers.

/// Buffers from here on get pages of their own.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 256 * 1024;

/// What an arena may keep of what is free at its end. Setting any threshold ends their adjusting themselves, and the one that this
/// begins with (128 KiB) is less than one compressed answer takes: its memory went back and was asked for anew, page by page, each time.
#[cfg(target_env = "gnu")]
const KEPT: i32 = 2 * 1024 * 1024;

/// Makes large buffers go back to the system when they are freed.
///
/// glibc raises its threshold for that (up to 32 MB) whenever such a buffer is freed. After the first large mail the next
/// ones would come from its arenas, one a thread, and stay there: forty mails of 29 MB left 770 MB behind. Setting the
/// threshold keeps it where it is set (mallopt(3)). Other libraries give back by themselves.
pub fn give_back_large_buffers() {
    #[cfg(target_env = "gnu")]
    #[expect(unsafe_code, reason = "there is no other way to it")]
    // SAFETY: integers; called before there is any other thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}
