//! The project that everything is measured on: many services, many files, two-stage Dockerfiles with a
//! shared prefix. Deterministic, so that two machines measure the same.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Its size.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) services: usize,
    /// Files of each context that are sent.
    pub(crate) files: usize,
    /// Bytes of each.
    pub(crate) size: usize,
}

/// A project on the disk.
pub(crate) struct Workload {
    pub(crate) folder: PathBuf,
    pub(crate) shape: Shape,
    /// Distinguishes the images of those who build it.
    pub(crate) prefix: &'static str,
}

const DOCKERFILE: &str = r#"ARG BASE=busybox
FROM ${BASE} AS build
WORKDIR /src
COPY deps.txt .
RUN sh -c 'cat deps.txt | sha256sum > /deps.lock'
COPY . .
ARG VARIANT=none
RUN find . -type f | sort | xargs cat | sha256sum > /out.bin && echo "$VARIANT" >> /out.bin

FROM ${BASE}
COPY --from=build /out.bin /app/out.bin
COPY static /app/static
ENV SERVICE=NAME
CMD ["sh", "-c", "trap 'exit 0' TERM; sleep 86400 & wait"]
"#;

/// The command of the last RUN, for the floor: the shell text that a bare process runs.
pub(crate) const COMMAND: &str = "find . -type f | sort | xargs cat | sha256sum > /out.bin";

/// The command of the first RUN.
pub(crate) const FIRST_COMMAND: &str = "cat deps.txt | sha256sum > /deps.lock";

impl Workload {
    /// Writes the project into `folder`, in the place of what is there. `build` is added to what each service
    /// says of its build.
    pub(crate) fn write(folder: &Path, shape: Shape, prefix: &'static str, build: &str) -> Self {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).unwrap();
        let mut compose = String::from("services:\n");
        for service in 0..shape.services {
            let name = format!("svc-{service:02}");
            context(&folder.join(&name), &name, shape);
            compose.push_str(&format!(
                "  {name}:\n    image: {prefix}/{name}:latest\n    build: {{context: ./{name}{build}}}\n"
            ));
        }
        fs::write(folder.join("compose.yaml"), compose).unwrap();
        Self { folder: folder.to_owned(), shape, prefix }
    }

    /// The build contexts.
    pub(crate) fn contexts(&self) -> Vec<PathBuf> {
        (0..self.shape.services).map(|service| self.folder.join(format!("svc-{service:02}"))).collect()
    }

    /// The name of a service's image.
    pub(crate) fn image(&self, service: usize) -> String {
        format!("{}/svc-{service:02}:latest", self.prefix)
    }

    /// Changes sixteen bytes of a source file of the first service in place, to the same length.
    pub(crate) fn edit(&self, stamp: u64) {
        let path = self.folder.join("svc-00/src/m000/f00000.txt");
        let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
        file.write_all(format!("{stamp:016}").as_bytes()).unwrap();
    }

    /// The same edit, the file's modification time set back to what it was.
    pub(crate) fn edit_keeping_time(&self, stamp: u64) {
        let path = self.folder.join("svc-00/src/m000/f00000.txt");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        self.edit(stamp);
        fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    /// Edits a file that the ignore file keeps out.
    pub(crate) fn edit_ignored(&self, stamp: u64) {
        fs::write(self.folder.join("svc-00/debug.log"), stamp.to_string()).unwrap();
    }

    /// Sets the modification time of every file of every context to now.
    pub(crate) fn touch_all(&self) {
        let now = std::time::SystemTime::now();
        for context in self.contexts() {
            each_file(&context, &mut |path| {
                fs::File::options().write(true).open(path).unwrap().set_modified(now).unwrap();
            });
        }
    }

    /// What `/app/out.bin` of a service has to hold: the digest of all its files in the order of their
    /// names, as the Dockerfile computes it.
    pub(crate) fn expected(&self, service: usize) -> String {
        let context = &self.contexts()[service];
        let mut names = Vec::new();
        each_file(context, &mut |path| {
            names.push(path.strip_prefix(context).unwrap().to_str().unwrap().to_owned());
        });
        names.retain(|name| !name.starts_with("node_modules/") && !name.ends_with(".log"));
        names.sort_by_key(|name| format!("./{name}"));
        let mut all = Vec::new();
        for name in names {
            all.extend(fs::read(context.join(name)).unwrap());
        }
        format!("{}  -\nnone\n", shipway::base::digest::Digest::of(all).hex())
    }
}

fn context(folder: &Path, name: &str, shape: Shape) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("Dockerfile"), DOCKERFILE.replace("NAME", name)).unwrap();
    fs::write(folder.join(".dockerignore"), "node_modules\n*.log\n.git\ntmp/\n**/*.swp\n").unwrap();
    let lines: String = (0..200).map(|number| format!("dep-{number}=1.{number}.0\n")).collect();
    fs::write(folder.join("deps.txt"), lines).unwrap();
    fs::write(folder.join("debug.log"), "a log\n").unwrap();
    let unsent = (shape.files / 10).max(1);
    for number in 0..unsent {
        fill(
            &folder.join(format!("static/s{number:04}.dat")),
            &format!("{name} static {number}"),
            shape.size,
        );
        let path = format!("node_modules/p{}/i{number:04}.js", number % 7);
        fill(&folder.join(path), &format!("{name} module {number}"), shape.size);
    }
    for number in 0..shape.files - unsent {
        let group = number / 20;
        let inner = ["", "/inner", "/inner/deep"][group % 3];
        let path = format!("src/m{group:03}{inner}/f{number:05}.txt");
        fill(&folder.join(path), &format!("{name} source {number}"), shape.size);
    }
}

/// A file half of which compresses, about as source trees do.
fn fill(path: &Path, seed: &str, size: usize) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut state = seed.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut content = Vec::with_capacity(size);
    while content.len() < size / 2 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        content.extend_from_slice(&state.to_le_bytes());
    }
    while content.len() < size {
        content.extend_from_slice(format!("{seed}\n").as_bytes());
    }
    content.truncate(size);
    fs::write(path, content).unwrap();
}

fn each_file(folder: &Path, action: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        match entry.file_type().unwrap().is_dir() {
            true => each_file(&entry.path(), action),
            false => action(&entry.path()),
        }
    }
}

/// A folder with a Dockerfile of `steps` equal steps that write nothing.
pub(crate) fn runs(folder: &Path, steps: usize) {
    one_image(folder, (0..steps).map(|step| format!("RUN true # {step}\n")).collect());
}

/// A folder with a Dockerfile of `steps` steps that each copy one small file.
pub(crate) fn copies(folder: &Path, steps: usize) {
    one_image(folder, (0..steps).map(|step| format!("COPY f{step}.txt /d/f{step}.txt\n")).collect());
    for step in 0..steps {
        fs::write(folder.join(format!("f{step}.txt")), format!("file {step}\n")).unwrap();
    }
}

/// The compose file of [`equal_services`] for the peer.
pub(crate) const PEER_FILE: &str = "compose.peer.yaml";

/// A project of `services` services with the same build.
pub(crate) fn equal_services(folder: &Path, services: usize) {
    one_image(folder, "COPY Dockerfile /a\nRUN sha256sum /a > /b\n".to_owned());
    for (name, build) in [("compose.yaml", ""), (PEER_FILE, ", network: host")] {
        let service = |number| format!("  s{number}:\n    build: {{context: .{build}}}\n");
        let compose: String = (0..services).map(service).collect();
        fs::write(folder.join(name), format!("services:\n{compose}")).unwrap();
    }
}

fn one_image(folder: &Path, steps: String) {
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("Dockerfile"), format!("FROM busybox\n{steps}")).unwrap();
}
