//! COPY on the real kernel: from a folder and from an image, through a detached overlay.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use shipway::context::{Context, Ignore, Placement, Request};
use shipway::sandbox::{Isolated, Layers, Sandbox, Writable};

const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A scratch folder on a real file system, with the layer of an image, and a sandbox.
struct Bench {
    folder: tempfile::TempDir,
    sandbox: Isolated,
}

impl Bench {
    /// `None` where overlays cannot be mounted.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("SHIPWAY_TEST_ALL").is_none(), "needs root");
            println!("skipped: needs root");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("copy-").tempdir_in("/var/tmp").unwrap();
        let program = Path::new(env!("CARGO_BIN_EXE_shipway"));
        let sandbox = Isolated::with_program(folder.path(), program).unwrap();
        let bench = Self { folder, sandbox };
        bench.image();
        Some(bench)
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// `/app` is a link to `/srv/app`, whose parents have owners and modes of their own.
    fn image(&self) {
        fs::create_dir_all(self.path("image/srv/app/sub")).unwrap();
        symlink("/srv/app", self.path("image/app")).unwrap();
        for (path, owner, mode) in
            [("image/srv", 5, 0o711), ("image/srv/app", 6, 0o750), ("image/srv/app/sub", 7, 0o700)]
        {
            chown(self.path(path), Some(owner), Some(owner)).unwrap();
            fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
        }
        let ping = self.path("image/srv/ping");
        fs::write(&ping, "elf").unwrap();
        chown(&ping, Some(8), Some(9)).unwrap();
        rustix::fs::setxattr(&ping, "security.capability", &CAPABILITY, XattrFlags::empty()).unwrap();
    }

    fn layers(&self, writable: Option<&str>) -> Layers {
        let writable = writable.map(|name| {
            let (upper, work) = (self.path(name).join("upper"), self.path(name).join("work"));
            fs::create_dir_all(&upper).unwrap();
            fs::create_dir_all(&work).unwrap();
            Writable { upper, work }
        });
        Layers { lowers: vec![self.path("image")], writable }
    }

    /// Copies `source` into a new layer over the image; the folder of that layer.
    fn copy(&self, context: &Context, source: &str, destination: &str, layer: &str) -> PathBuf {
        let request = Request { sources: vec![source.to_owned()], ..Request::default() };
        let selection = context.select(&request).unwrap();
        let root = self.sandbox.root(&self.layers(Some(layer))).unwrap();
        let placement = Placement { destination: destination.to_owned(), ..Placement::default() };
        context.copy(&selection, &root, &placement).unwrap();
        self.path(layer).join("upper")
    }
}

/// Owner, group and permissions.
fn attributes(path: &Path) -> (u32, u32, u32) {
    let meta = fs::symlink_metadata(path).unwrap();
    (meta.uid(), meta.gid(), meta.mode() & 0o7777)
}

#[test]
fn a_context_is_copied_through_links_of_the_image() {
    let Some(bench) = Bench::new() else { return };
    fs::create_dir_all(bench.path("context/sub/new")).unwrap();
    fs::write(bench.path("context/sub/file"), "x".repeat(300_000)).unwrap();
    fs::hard_link(bench.path("context/sub/file"), bench.path("context/sub/same")).unwrap();
    fs::set_permissions(bench.path("context/sub"), Permissions::from_mode(0o775)).unwrap();
    chown(bench.path("context/sub/file"), Some(1000), Some(1000)).unwrap();
    let context = Context::open(&bench.path("context"), Ignore::default(), None).unwrap();
    let upper = bench.copy(&context, ".", "/app", "layer");
    assert!(fs::symlink_metadata(upper.join("app")).is_err(), "the link itself is not touched");
    assert_eq!(attributes(&upper.join("srv")), (5, 5, 0o711));
    assert_eq!(attributes(&upper.join("srv/app")), (6, 6, 0o750));
    assert_eq!(attributes(&upper.join("srv/app/sub")), (0, 0, 0o775));
    assert_eq!(attributes(&upper.join("srv/app/sub/file")), (0, 0, 0o644));
    assert_eq!(fs::read(upper.join("srv/app/sub/file")).unwrap().len(), 300_000);
    let inode = |name: &str| fs::metadata(upper.join("srv/app/sub").join(name)).unwrap().ino();
    assert_eq!(inode("file"), inode("same"));
}

#[test]
fn an_image_is_copied_from_with_owners_and_capabilities() {
    let Some(bench) = Bench::new() else { return };
    let rootfs = || Context::rootfs(bench.sandbox.root(&bench.layers(None)).unwrap());
    let upper = bench.copy(&rootfs(), "/srv", "/copied/", "layer");
    assert_eq!(attributes(&upper.join("copied")), (0, 0, 0o755));
    assert_eq!(attributes(&upper.join("copied/ping")), (8, 9, 0o644));
    assert_eq!(attributes(&upper.join("copied/app/sub")), (7, 7, 0o700));
    let mut buffer = [0; 64];
    let length = rustix::fs::getxattr(upper.join("copied/ping"), "security.capability", &mut buffer).unwrap();
    assert_eq!(buffer[..length], CAPABILITY);
    let selection = |source: &str| {
        let request = Request { sources: vec![source.to_owned()], ..Request::default() };
        rootfs().select(&request).unwrap().digest()
    };
    assert_eq!(selection("/app"), selection("/srv/app"), "links of the image lead through the image");
}
