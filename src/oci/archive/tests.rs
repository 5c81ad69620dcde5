//! Archives written, read again, and given to a real engine.

use std::io::Write;
use std::process::{Command, Stdio};

use super::super::{ImageConfig, LayerOptions, Platform, Times, write_layer};
use super::*;
use crate::base::digest::{BlobId, Digest};
use crate::base::fs::RootDir;
use crate::base::testing::{as_root, available, variable};
use crate::oci::{Descriptor, ImageForm, OciError, Reference, media};
use crate::store::Store;

/// A layer's plain tar with one file.
fn layer(name: &str, content: &str) -> Vec<u8> {
    let tree = tempfile::tempdir().unwrap();
    std::fs::write(tree.path().join(name), content).unwrap();
    let mut bytes = Vec::new();
    let options = LayerOptions { times: Times::NoLater(0) };
    write_layer(&RootDir::open(tree.path()).unwrap(), None, &mut bytes, &options).unwrap();
    bytes
}

fn content(bytes: &[u8]) -> LayerContent<'_> {
    Box::new(move |out| out.write_all(bytes).map_err(|source| OciError::Write { what: "a test", source }))
}

fn config(layers: &[Vec<u8>]) -> ImageConfig {
    let mut config = ImageConfig::empty(&Platform::new("linux", "amd64", None));
    config.config.cmd = vec!["/hello".into()];
    config.rootfs.diff_ids =
        layers.iter().map(|layer| crate::base::digest::DiffId(Digest::of(layer))).collect();
    config
}

fn image<'a>(layers: &'a [Vec<u8>], tags: &[&str]) -> ArchiveImage<'a> {
    let archived = |bytes: &'a Vec<u8>| ArchiveLayer {
        descriptor: Descriptor::of(media::LAYER, bytes),
        content: Some(content(bytes)),
    };
    let tags = tags.iter().map(|tag| Reference::parse(tag).unwrap()).collect();
    ArchiveImage {
        config: config(layers).to_json(),
        tags,
        layers: layers.iter().map(archived).collect(),
        form: ImageForm::default(),
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

#[test]
fn what_is_written_is_read_again() {
    let layers = [layer("hello", "1"), layer("world", "2")];
    let mut bytes = Vec::new();
    let images = [image(&layers, &["a:1", "b:2"]), image(&layers[..1], &[])];
    let written = write_archive(&mut bytes, &images, ArchiveKind::Docker).unwrap();
    let (_folder, store) = store();
    let read = read_archive(&store, &mut bytes.as_slice()).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(read[0].tags.iter().map(Reference::familiar).collect::<Vec<_>>(), ["a:1", "b:2"]);
    for (read, written) in read.iter().zip(&written) {
        assert_eq!((&read.manifest, &read.parsed.config), (&written.manifest, &written.config));
    }
    assert_eq!(read[0].image, config(&layers));
    for digest in [Digest::of(&layers[1]), written[0].config.digest, written[0].manifest.digest] {
        assert!(store.has_blob(BlobId(digest)));
    }
    let mut again = Vec::new();
    write_archive(&mut again, &images, ArchiveKind::Docker).unwrap();
    assert!(bytes == again);
}

#[test]
fn layers_left_out_must_be_in_the_store() {
    let layers = [layer("hello", "1")];
    let mut image = image(&layers, &["a:1"]);
    image.layers[0].content = None;
    let mut bytes = Vec::new();
    write_archive(&mut bytes, &[image], ArchiveKind::Docker).unwrap();
    let (_folder, store) = store();
    assert!(matches!(read_archive(&store, &mut bytes.as_slice()), Err(OciError::MissingBlob(_))));
    let mut blob = store.write_blob().unwrap();
    blob.write_all(&layers[0]).unwrap();
    blob.finish(None).unwrap();
    assert_eq!(read_archive(&store, &mut bytes.as_slice()).unwrap().len(), 1);
}

#[test]
fn wrong_contents_are_not_passed_on() {
    let layers = [layer("hello", "1")];
    let other = layer("hello", "2");
    for wrong in [other.as_slice(), b"short", &[0; 4096]] {
        let mut image = image(&layers, &[]);
        image.layers[0].content = Some(content(wrong));
        assert!(write_archive(&mut Vec::new(), &[image], ArchiveKind::Docker).is_err());
    }
}

#[test]
fn archives_of_old_engines_are_read() {
    use super::super::tarball::{Kind, Member, Writer};
    let bytes = layer("hello", "1");
    let config = config(&[bytes.clone(), bytes.clone()]).to_json();
    let manifest = r#"[{"Config":"c.json","RepoTags":["old:1"],"Layers":["x/layer.tar","y/layer.tar"]}]"#;
    let mut writer = Writer::new(Vec::new());
    writer.append_bytes(&Member::new("x/", Kind::Directory), b"").unwrap();
    writer.append_bytes(&Member::new("x/layer.tar", Kind::File), &bytes).unwrap();
    let link = Kind::Symlink(b"../x/layer.tar".to_vec());
    writer.append_bytes(&Member::new("y/layer.tar", link), b"").unwrap();
    writer.append_bytes(&Member::new("c.json", Kind::File), &config).unwrap();
    writer.append_bytes(&Member::new("manifest.json", Kind::File), manifest.as_bytes()).unwrap();
    let (_folder, store) = store();
    let read = read_archive(&store, &mut writer.finish().unwrap().as_slice()).unwrap();
    assert_eq!(read[0].tags, [Reference::parse("old:1").unwrap()]);
    assert_eq!(read[0].parsed.layers[1], Descriptor::of(media::LAYER, &bytes));
    assert!(store.has_blob(BlobId(read[0].manifest.digest)));
}

#[test]
fn damaged_archives_are_refused() {
    let (_folder, store) = store();
    for (name, content) in
        [("x", ""), ("index.json", "{"), ("manifest.json", "[]"), ("manifest.json", "[{}]")]
    {
        use super::super::tarball::{Kind, Member, Writer};
        let mut writer = Writer::new(Vec::new());
        writer.append_bytes(&Member::new(name, Kind::File), content.as_bytes()).unwrap();
        let bytes = writer.finish().unwrap();
        let error = read_archive(&store, &mut bytes.as_slice()).unwrap_err();
        assert!(matches!(error, OciError::Archive { .. }), "{error}");
    }
}

/// Runs the engine's client with this standard input.
fn docker(host: &str, arguments: &[&str], input: &[u8]) -> (bool, Vec<u8>) {
    let mut client = Command::new("docker");
    client.args(["--host", host]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = client.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // The client may end before it has read all.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().unwrap();
        (output.status.success(), output.stdout)
    })
}

/// The image of that name as the engine saves it.
fn saved(host: &str, name: &str) -> ArchivedImage {
    let (_, bytes) = docker(host, &["save", name], b"");
    let (_folder, store) = store();
    let mut read = read_archive(&store, &mut bytes.as_slice()).unwrap();
    assert_eq!(read.len(), 1);
    assert_eq!(read[0].tags, [Reference::parse(name).unwrap()]);
    read.remove(0)
}

#[test]
fn an_engine_loads_what_is_written_and_what_it_saves_is_read() {
    let host = variable("SHIPWAY_TEST_DOCKER_HOST");
    if !available(host.is_some(), "an engine in SHIPWAY_TEST_DOCKER_HOST") || !as_root() {
        return;
    }
    let host = host.unwrap();
    let layers = [layer("hello", "first"), layer("world", "second")];
    let mut bytes = Vec::new();
    let tags = ["ocitest/load:1", "ocitest/load:2"];
    let written = write_archive(&mut bytes, &[image(&layers, &tags)], ArchiveKind::Docker).unwrap();
    assert!(docker(&host, &["load"], &bytes).0);
    let (_, id) = docker(&host, &["image", "inspect", "--format", "{{.Id}}", tags[1]], b"");
    let id = String::from_utf8(id).unwrap();
    let known = [&written[0].config, &written[0].manifest].map(|descriptor| descriptor.digest.to_string());
    assert!(known.contains(&id.trim().to_owned()), "{id}");
    assert_eq!(saved(&host, tags[0]).image, config(&layers));

    // With the layer below left out: Docker's own store finds it by its chain, containerd's by its blob,
    // which it was given just before.
    let more = [layers[0].clone(), layer("world", "third")];
    let mut next = image(&more, &["ocitest/load:3"]);
    next.layers[0].content = None;
    let mut bytes = Vec::new();
    write_archive(&mut bytes, &[next], ArchiveKind::Docker).unwrap();
    let (ok, driver) = docker(&host, &["info", "--format", "{{.Driver}}"], b"");
    if ok && String::from_utf8_lossy(&driver).trim().starts_with("overlay") {
        assert!(docker(&host, &["load"], &bytes).0);
        assert_eq!(saved(&host, "ocitest/load:3").image, config(&more));
        assert!(docker(&host, &["rmi", "ocitest/load:3"], b"").0);
    }
    assert!(docker(&host, &["rmi", tags[0], tags[1]], b"").0);
}

#[test]
fn skopeo_reads_what_is_written_and_what_it_writes_is_read() {
    let skopeo = |arguments: &[&str]| {
        let output = Command::new("skopeo").args(arguments).stdin(Stdio::null()).output();
        output.ok().filter(|output| output.status.success()).map(|output| output.stdout)
    };
    if !available(skopeo(&["--version"]).is_some(), "skopeo") {
        return;
    }
    let layers = [layer("hello", "first"), layer("world", "second")];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let mut file = std::fs::File::create(&path).unwrap();
    let written =
        write_archive(&mut file, &[image(&layers, &["ocitest/skopeo:1"])], ArchiveKind::Docker).unwrap();
    for form in ["oci-archive", "docker-archive"] {
        let source = format!("{form}:{}", path.display());
        let text = skopeo(&["inspect", "--config", "--raw", &source]).unwrap();
        assert_eq!(ImageConfig::from_json(&text).unwrap(), config(&layers), "{source}");
        let copy = folder.path().join("copy.tar");
        let target = format!("oci-archive:{}:ocitest/skopeo:1", copy.display());
        skopeo(&["copy", "--insecure-policy", &source, &target]).unwrap();
        let (_folder, store) = store();
        let read = read_archive(&store, &mut std::fs::File::open(&copy).unwrap()).unwrap();
        assert_eq!(read[0].image.rootfs, config(&layers).rootfs);
        // skopeo writes the config of the older form anew.
        assert!(form == "docker-archive" || read[0].parsed.config.digest == written[0].config.digest);
        std::fs::remove_file(&copy).unwrap();
    }
}
