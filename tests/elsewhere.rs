//! What builds take from URLs, git repositories and contexts with names, on the real program.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::add::{build, written};
use crate::scene::{Scene, skip, until};

/// A file that the web server has.
#[derive(Clone)]
struct Page {
    body: Vec<u8>,
    etag: &'static str,
    modified: Option<&'static str>,
    /// Who may have it.
    token: Option<&'static str>,
}

/// A web server in this process: pages by path, and how each was answered.
#[derive(Clone)]
struct Web {
    address: String,
    pages: Arc<Mutex<HashMap<String, Page>>>,
    answers: Arc<Mutex<Vec<String>>>,
}

impl Web {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let web = Self { address, pages: Arc::default(), answers: Arc::default() };
        let server = web.clone();
        // Ends with the process.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| server.answer(&stream)));
        web
    }

    fn page(&self, path: &str, body: &str, etag: &'static str) -> String {
        let page =
            Page { body: body.into(), etag, modified: Some("Sun, 06 Nov 1994 08:49:37 GMT"), token: None };
        self.put(path, page)
    }

    fn put(&self, path: &str, page: Page) -> String {
        self.pages.lock().unwrap().insert(path.to_owned(), page);
        format!("http://{}{path}", self.address)
    }

    fn answer(&self, mut stream: &TcpStream) {
        let lines: Vec<String> = BufReader::new(stream)
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let path = lines.first().and_then(|line| line.split(' ').nth(1)).unwrap_or("/").to_owned();
        let has = |name: &str, value: &str| {
            lines.iter().any(|line| {
                line.split_once(": ")
                    .is_some_and(|(key, found)| key.eq_ignore_ascii_case(name) && found == value)
            })
        };
        let page = self.pages.lock().unwrap().get(&path).cloned();
        let (status, body, more) = match page {
            None if path == "/moved" => ("302 Found", Vec::new(), "Location: /file.txt\r\n".to_owned()),
            None => ("404 Not Found", Vec::new(), String::new()),
            Some(page) if page.token.is_some_and(|token| !has("authorization", token)) => {
                ("401 Unauthorized", Vec::new(), String::new())
            }
            Some(page) if has("if-none-match", page.etag) => ("304 Not Modified", Vec::new(), String::new()),
            Some(page) => {
                let modified =
                    page.modified.map(|time| format!("Last-Modified: {time}\r\n")).unwrap_or_default();
                ("200 OK", page.body, format!("ETag: {}\r\n{modified}", page.etag))
            }
        };
        self.answers.lock().unwrap().push(format!("{path} {}", &status[..3]));
        let head =
            format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{more}\r\n", body.len());
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.answers.lock().unwrap())
    }
}

#[test]
fn a_url_is_fetched_once_and_asked_about_when_something_runs() {
    let Some(scene) = Scene::as_root() else { return };
    let web = Web::start();
    let url = web.page("/file.txt", "one\n", "\"1\"");
    let moved = format!("http://{}/moved", web.address);
    let dockerfile =
        format!("FROM scratch\nCOPY a /\nADD {url} {moved} /got/\nADD --chmod=644 {url} /named\n");
    scene.write("Dockerfile", &dockerfile).write("a", "a\n");
    build(&scene, &[]).ok();
    let expected = [
        "a 0:0 644 a",
        "got 0:0 755",
        "got/file.txt 0:0 600 one",
        "got/moved 0:0 600 one",
        "named 0:0 644 one",
    ];
    assert_eq!(written(&scene), expected);
    assert_eq!(time_of(&scene, "named"), 784_111_777);
    assert_eq!(web.asked(), ["/file.txt 200", "/moved 302", "/file.txt 200"]);
    // Nothing to do: nobody is asked.
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
    assert_eq!(web.asked(), [""; 0]);
    // Something else has to run: the files are asked about, and are the same.
    scene.write("a", "another\n");
    build(&scene, &[]).ok();
    let asked = web.asked();
    assert!(
        asked.contains(&"/file.txt 304".to_owned()) && !asked.contains(&"/file.txt 200".to_owned()),
        "{asked:?}"
    );
    // Another file there: seen with --pull, or when something runs.
    web.page("/file.txt", "two\n", "\"2\"");
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
    build(&scene, &["--pull"]).ok();
    assert!(written(&scene).contains(&"named 0:0 644 two".to_owned()));
    web.page("/file.txt", "three\n", "\"3\"");
    scene.write("a", "again\n");
    build(&scene, &[]).ok();
    assert!(written(&scene).contains(&"named 0:0 644 three".to_owned()));
    // Without a network what is known is enough.
    web.asked();
    scene.write("a", "offline\n");
    scene
        .shipway(&["--engine", "none", "--offline", "image", "build", "-o", "type=tar,dest=../out.tar", "."])
        .ok();
    assert_eq!(web.asked(), [""; 0]);
    assert!(written(&scene).contains(&"named 0:0 644 three".to_owned()));
}

#[test]
fn a_checksum_is_verified_and_never_asked_about_again() {
    let Some(scene) = Scene::as_root() else { return };
    let web = Web::start();
    let url = web.page("/x", "x\n", "\"1\"");
    let digest = "73cb3858a687a8494ca3323053016282f3dad39d42cf62ca4e79dda2aac7d9ac";
    scene
        .write("a", "a")
        .write("Dockerfile", &format!("FROM scratch\nCOPY a /\nADD --checksum=sha256:{digest} {url} /\n"));
    build(&scene, &[]).ok();
    scene.write("a", "b");
    build(&scene, &["--pull"]).ok();
    assert_eq!(web.asked(), ["/x 200"]);
    scene.write("Dockerfile", &format!("FROM scratch\nADD --checksum=sha256:{} {url} /\n", "0".repeat(64)));
    build(&scene, &[]).fails(1, &["has the digest", digest, "Dockerfile:2:"]);
    scene.write("Dockerfile", &format!("FROM scratch\nADD {url}/none /\n"));
    build(&scene, &[]).fails(1, &["/x/none answers 404 Not Found", "Dockerfile:2:5"]);
}

#[test]
fn a_downloaded_archive_is_unpacked_only_when_asked_for() {
    let Some(scene) = Scene::as_root() else { return };
    let web = Web::start();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    tar.append_data(&mut header, "in", "x\n".as_bytes()).unwrap();
    let page = Page { body: tar.into_inner().unwrap(), etag: "\"t\"", modified: None, token: None };
    let url = web.put("/x.tar", page);
    scene.write("Dockerfile", &format!("FROM scratch\nADD {url} /kept/\nADD --unpack {url} /out/\n"));
    build(&scene, &[]).ok();
    let files = written(&scene);
    assert!(files.iter().any(|line| line.starts_with("kept/x.tar 0:0 600")), "{files:?}");
    assert!(files.contains(&"out/in 0:0 644 x".to_owned()), "{files:?}");
    assert_eq!(time_of(&scene, "kept/x.tar"), 0);
}

#[test]
fn a_secret_opens_a_url_and_is_kept_nowhere() {
    let Some(scene) = Scene::as_root() else { return };
    let web = Web::start();
    let page =
        Page { body: b"x\n".to_vec(), etag: "\"t\"", modified: None, token: Some("Bearer s3cr3t-token") };
    let url = web.put("/closed", page);
    scene.write("token", "s3cr3t-token\n").write("Dockerfile", &format!("FROM scratch\nADD {url} /\n"));
    build(&scene, &[]).fails(1, &["/closed answers 401 Unauthorized"]);
    let secret = format!("id=HTTP_AUTH_TOKEN_{},src=token", web.address);
    let ran = build(&scene, &["--secret", &secret]).ok();
    assert!(!ran.err.contains("s3cr3t"), "{}", ran.err);
    assert_eq!(written(&scene), ["closed 0:0 600 x"]);
    let found = Command::new("grep").args(["-r", "s3cr3t"]).arg(scene.store()).output().unwrap();
    assert!(found.stdout.is_empty(), "{}", String::from_utf8_lossy(&found.stdout));
}

/// The modification time of a file of the last build.
fn time_of(scene: &Scene, name: &str) -> u64 {
    let file = std::fs::File::open(scene.project().join("../out.tar")).unwrap();
    let mut archive = tar::Archive::new(file);
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    let entry = entries.find(|entry| entry.path().unwrap() == Path::new(name)).unwrap();
    entry.header().mtime().unwrap()
}

/// Git repositories behind `git://`, as long as it lives.
struct Repositories {
    folder: tempfile::TempDir,
    address: String,
    daemon: Child,
}

impl Repositories {
    /// `None` where there is no git, or no daemon of it.
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let base = format!("--base-path={}", folder.path().display());
        let daemon = Command::new("git")
            .args(["daemon", "--export-all", "--listen=127.0.0.1", "--reuseaddr"])
            .args([format!("--port={port}"), base])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let Ok(daemon) = daemon else {
            skip("git");
            return None;
        };
        until("git daemon answers", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { folder, address: format!("git://127.0.0.1:{port}"), daemon })
    }

    fn git(&self, folder: &Path, arguments: &[&str]) -> String {
        let identity =
            ["-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always"];
        let output = Command::new("git")
            .args(identity)
            .args(arguments)
            .current_dir(folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A repository with these files; its folder.
    fn repository(&self, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        self.git(&folder, &["init", "-q", "-b", "main"]);
        self.commit(&folder, files);
        folder
    }

    /// Commits files; the commit.
    fn commit(&self, folder: &Path, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(folder, &["add", "-A"]);
        self.git(folder, &["commit", "-q", "-m", "x"]);
        self.git(folder, &["rev-parse", "HEAD"])
    }
}

impl Drop for Repositories {
    fn drop(&mut self) {
        // `git` has the daemon as a child of its own.
        let group = rustix::process::Pid::from_child(&self.daemon);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.daemon.wait();
    }
}

#[test]
fn a_repository_is_checked_out_at_its_commit() {
    let Some(scene) = Scene::as_root() else { return };
    let Some(git) = Repositories::start() else { return };
    let folder = git.repository("r", &[("top", "t\n"), ("sub/run.sh", "s\n"), ("sub/x", "x\n")]);
    std::os::unix::fs::symlink("x", folder.join("sub/l")).unwrap();
    std::fs::set_permissions(folder.join("sub/run.sh"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
        .unwrap();
    let first = git.commit(&folder, &[("sub/y", "y\n")]);
    git.git(&folder, &["tag", "-a", "v1", "-m", "x"]);
    git.commit(&folder, &[("sub/y", "later\n")]);
    let url = format!("{}/r", git.address);
    let dockerfile = format!(
        "FROM scratch\nCOPY a /\nADD {url}#v1:sub /tag/\nADD {url}?subdir=sub /head/\nADD --checksum={} --exclude=sub {url}#refs/tags/v1 /top\nADD --keep-git-dir=true {url}#{first} /whole\n",
        &first[..10]
    );
    scene.write("a", "a").write("Dockerfile", &dockerfile);
    build(&scene, &[]).ok();
    let files = written(&scene);
    let without_git: Vec<&str> =
        files.iter().map(String::as_str).filter(|line| !line.starts_with("whole/")).collect();
    let expected = [
        "a 0:0 644 a",
        "head 0:0 755",
        "head/l 0:0 777 -> x",
        "head/run.sh 0:0 755 s",
        "head/x 0:0 644 x",
        "head/y 0:0 644 later",
        "tag 0:0 755",
        "tag/l 0:0 777 -> x",
        "tag/run.sh 0:0 755 s",
        "tag/x 0:0 644 x",
        "tag/y 0:0 644 y",
        "top 0:0 755",
        "top/top 0:0 644 t",
        "whole 0:0 755",
    ];
    assert_eq!(without_git, expected);
    assert!(files.iter().any(|line| line.starts_with("whole/.git/HEAD")), "{files:?}");
    // Nothing to do, although the branch has moved: nobody is asked.
    git.commit(&folder, &[("sub/y", "newest\n")]);
    assert!(build(&scene, &[]).ok().err.contains("nothing changed"));
    scene.write("a", "b");
    build(&scene, &[]).ok();
    assert!(written(&scene).contains(&"head/y 0:0 644 newest".to_owned()));
    for (address, said) in [
        (format!("{url}#nowhere"), "has no branch, tag or commit `nowhere`"),
        (format!("{url}#:no/such"), "has no folder `no/such`"),
        (format!("{}/none.git", git.address), "git cannot ask"),
    ] {
        scene.write("Dockerfile", &format!("FROM scratch\nADD {address} /\n"));
        build(&scene, &[]).fails(1, &[said, "Dockerfile:2:"]);
    }
}

#[test]
fn a_context_may_be_a_repository() {
    let Some(scene) = Scene::as_root() else { return };
    let Some(git) = Repositories::start() else { return };
    let files = [
        ("app/Dockerfile", "FROM scratch\nCOPY . /src/\n"),
        ("app/.dockerignore", "skipped\n"),
        ("app/skipped", "s\n"),
        ("app/other.Dockerfile", "FROM scratch\nCOPY --from=more skipped /\n"),
    ];
    let folder = git.repository("r.git", &files);
    let url = format!("{}/r.git#main:app", git.address);
    let flags =
        ["--engine", "none", "--progress", "plain", "image", "build", "-o", "type=tar,dest=../out.tar"];
    let run = |more: &[&str]| scene.shipway(&[&flags[..], more].concat());
    run(&[&url]).ok();
    let expected = [
        "src 0:0 755",
        "src/.dockerignore 0:0 644 skipped",
        "src/Dockerfile 0:0 644 FROM scratch\nCOPY . /src/",
        "src/other.Dockerfile 0:0 644 FROM scratch\nCOPY --from=more skipped /",
        "src/skipped 0:0 644 s",
    ];
    assert_eq!(written(&scene), expected);
    assert!(run(&[&url]).ok().err.contains("nothing changed"));
    // A named context that is a repository too, and another Dockerfile of it.
    let more = format!("more={url}");
    run(&["-f", "other.Dockerfile", "--build-context", &more, &url]).ok();
    assert_eq!(written(&scene), ["skipped 0:0 644 s"]);
    // In a compose file.
    scene.write("compose.yaml", &format!("services:\n  app:\n    build: {url}\n"));
    let project = || scene.shipway(&["--engine", "none", "--progress", "plain", "build"]);
    project().ok();
    assert!(project().ok().err.contains("nothing changed"));
    git.commit(&folder, &[("app/new", "n\n")]);
    scene
        .shipway(&["--engine", "none", "--progress", "plain", "build", "--pull"])
        .ok()
        .says(&["] COPY . /src/"]);
    run(&["https://127.0.0.1:1/context.tar.gz"]).fails(1, &["not supported yet", "context.tar.gz"]);
}

#[test]
fn a_tar_or_a_dockerfile_comes_from_standard_input() {
    let Some(scene) = Scene::as_root() else { return };
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let files = [("Dockerfile", "FROM scratch\nCOPY . /\n"), (".dockerignore", "f"), ("f", "f\n")];
    for (name, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o640);
        header.set_uid(5);
        header.set_gid(6);
        tar.append_data(&mut header, name, text.as_bytes()).unwrap();
    }
    let tar = tar.into_inner().unwrap().finish().unwrap();
    let flags =
        ["--engine", "none", "--progress", "plain", "image", "build", "-o", "type=tar,dest=../out.tar"];
    let run = |input: &[u8]| scene.shipway_reading(&[&flags[..], &["-"]].concat(), input);
    run(&tar).ok();
    let expected = [".dockerignore 5:6 640 f", "Dockerfile 5:6 640 FROM scratch\nCOPY . /", "f 5:6 640 f"];
    assert_eq!(written(&scene), expected);
    assert!(run(&tar).ok().err.contains("nothing changed"));
    run(b"FROM scratch\nCOPY <<E /e\nhi\nE\n").ok();
    assert_eq!(written(&scene), ["e 0:0 644 hi"]);
    run(b"FROM scratch\nCOPY f /\n").fails(1, &["`f` not found"]);
}

#[test]
fn folders_with_names_replace_images_and_stages() {
    let Some(scene) = Scene::as_root() else { return };
    let dockerfile = "FROM base AS one\nCOPY --from=files . /f/\nFROM two AS two\nRUN never runs\nFROM one\nCOPY --from=two /t /\n";
    scene
        .write("app/Dockerfile", dockerfile)
        .write("base/b", "b\n")
        .write("files/x", "x\n")
        .write("files/skipped", "s\n")
        .write("files/.dockerignore", "skipped\n.dockerignore\n")
        .write("stage/t", "t\n");
    let flags =
        ["--engine", "none", "--progress", "plain", "image", "build", "-o", "type=tar,dest=../out.tar"];
    let contexts =
        ["--build-context", "base=base", "--build-context", "files=files", "--build-context", "two=./stage"];
    let run = || scene.shipway(&[&flags[..], &contexts, &["app"]].concat());
    run().ok();
    assert_eq!(written(&scene), ["b 0:0 644 b", "f 0:0 755", "f/x 0:0 644 x", "t 0:0 644 t"]);
    assert!(run().ok().err.contains("nothing changed"));
    scene.write("files/skipped", "changed\n");
    assert!(run().ok().err.contains("nothing changed"));
    scene.write("base/b", "changed\n");
    run().ok();
    assert!(written(&scene).contains(&"b 0:0 644 changed".to_owned()));
    let missing = scene.shipway(&[&flags[..], &["--build-context", "base=nosuch", "app"]].concat());
    missing.fails(1, &["the context `base`, nosuch, does not exist"]);
}

#[test]
fn services_and_layouts_are_contexts() {
    let Some(scene) = Scene::with_busybox() else { return };
    scene
        .write("lib/Dockerfile", "FROM scratch\nCOPY l /lib/l\n")
        .write("lib/l", "l\n")
        .write("app/Dockerfile", "FROM lay\nCOPY --from=tools /lib/l /l\nRUN cat /l /etc/passwd > /out\n");
    let export = ["--engine", "none", "image", "build", "-o", "type=oci,dest=layout.tar", "base"];
    scene.write("base/Dockerfile", "FROM busybox\nENV FROM_LAYOUT=1\n");
    scene.shipway(&export).ok();
    let layout = std::fs::File::open(scene.project().join("layout.tar")).unwrap();
    tar::Archive::new(layout).unpack(scene.project().join("layout")).unwrap();
    let compose = "services:\n  lib:\n    build: lib\n  app:\n    build:\n      context: app\n      additional_contexts:\n        tools: service:lib\n        lay: oci-layout://./layout\n";
    scene.write("compose.yaml", compose);
    let project = || scene.shipway(&["--engine", "none", "--progress", "plain", "build", "app"]);
    project().ok();
    assert!(project().ok().err.contains("nothing changed"));
    scene.write("lib/l", "changed\n");
    project().ok().says(&["] COPY --from=tools /lib/l /l", "] RUN cat"]);
}
