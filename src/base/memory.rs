//! Memory for what is large: the heap in large pages.
//!
//! A walk over many files fills some MiB of heap once, in small pieces. The first touch of each 4 KiB of it is
//! a fault, and these faults cost more than the pieces cost in the allocator. Linux backs memory with pages of
//! 2 MiB where it is asked to (`madvise`, the usual setting in `/sys/kernel/mm/transparent_hugepage/enabled`),
//! and glibc's allocator asks only where the environment says so when a program starts. Nothing needs this to
//! work: advice that nobody takes changes nothing.

/// Has the heaps of this thread and of the workers grow in large steps, and advises large pages for them. To be
/// called before a walk; later calls do nothing.
pub fn large_pages() {
    #[cfg(target_env = "gnu")]
    {
        static ONCE: std::sync::Once = std::sync::Once::new();
        ONCE.call_once(|| {
            glibc::grow_in_steps();
            glibc::advise();
            rayon::spawn_broadcast(|_| glibc::advise());
        });
    }
}

#[cfg(target_env = "gnu")]
mod glibc {
    use rustix::mm::{Advice, madvise};

    /// How much a heap grows at a time.
    const STEP: usize = 16 << 20;
    /// What is larger is mapped alone.
    const ALONE: usize = 4 << 20;
    /// More than a heap has at first.
    const FIRST: usize = 256 << 10;
    /// A large page.
    const PAGE: usize = 2 << 20;

    pub(super) fn grow_in_steps() {
        let settings =
            [(libc::M_TOP_PAD, STEP), (libc::M_TRIM_THRESHOLD, 2 * STEP), (libc::M_MMAP_THRESHOLD, ALONE)];
        for (name, bytes) in settings {
            // SAFETY: it only sets a parameter of the allocator.
            unsafe { libc::mallopt(name, bytes as libc::c_int) };
        }
    }

    /// Advises large pages for what this thread's heap gives next.
    pub(super) fn advise() {
        // So large that the heap grows: its next bytes are there then.
        let first = piece(FIRST);
        let begin = (first.as_ptr() as usize).next_multiple_of(PAGE);
        drop(first);
        // SAFETY: advice on large pages changes no content, whatever lies there.
        let _ = unsafe { madvise(begin as *mut std::ffi::c_void, STEP, Advice::LinuxHugepage) };
        // What lies before has small pages already. It is left alone, and costs nothing: it is never touched.
        let _kept = std::mem::ManuallyDrop::new(piece(PAGE));
    }

    fn piece(bytes: usize) -> Vec<u8> {
        std::hint::black_box(Vec::with_capacity(bytes))
    }
}
