//! Memory for what is large: the heap in large pages.
//!
//! A walk over many files fills some MiB of heap once, in small pieces. The first touch of each 4 KiB of it is
//! a fault, and these faults cost more than the pieces cost in the allocator. Linux backs memory with pages of
//! 2 MiB where it is asked to (`madvise`, the usual setting in `/sys/kernel/mm/transparent_hugepage/enabled`),
//! and glibc's allocator asks only where the environment says so when a program starts. Nothing needs this to
//! work: advice that nobody takes changes nothing.

/// Has the heaps of the workers grow by some MiB, and advises large pages for that. To be called before a walk
/// over many files: a large page has to be cleared as a whole. Later calls do nothing.
pub fn large_pages() {
    #[cfg(target_env = "gnu")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            glibc::keep_what_is_free();
            rayon::spawn_broadcast(|_| glibc::grow());
        });
    }
}

#[cfg(target_env = "gnu")]
mod glibc {
    use rustix::mm::{Advice, madvise};

    /// By how much a heap grows.
    const STEP: usize = 16 << 20;
    /// A large page.
    const PAGE: usize = 2 << 20;

    /// Has pieces of [`STEP`] come from the heap, and stay there when they are free.
    pub(super) fn keep_what_is_free() {
        for name in [libc::M_TRIM_THRESHOLD, libc::M_MMAP_THRESHOLD] {
            // SAFETY: it only sets a parameter of the allocator.
            unsafe { libc::mallopt(name, 2 * STEP as libc::c_int) };
        }
    }

    /// Has this thread's heap grow, and advises large pages for what it gives next.
    pub(super) fn grow() {
        let whole = piece(STEP);
        let begin = (whole.as_ptr() as usize).next_multiple_of(PAGE);
        drop(whole);
        // SAFETY: advice on large pages changes no content, whatever lies there.
        let _ = unsafe { madvise(begin as *mut std::ffi::c_void, STEP - PAGE, Advice::LinuxHugepage) };
        // What lies before has small pages already. It is left alone, and costs nothing: it is never touched.
        let _kept = std::mem::ManuallyDrop::new(piece(PAGE));
    }

    fn piece(bytes: usize) -> Vec<u8> {
        std::hint::black_box(Vec::with_capacity(bytes))
    }
}
