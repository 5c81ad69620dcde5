//! Images and the engine's identity: questions with short answers.

use std::collections::HashMap;

use bollard::models::ImageInspect;
use bollard::query_parameters::{
    ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use serde_json::Value;

use crate::base::digest::{DiffId, Digest};

use super::super::{EngineError, Identity, Image, ImageDetails, ImageStore, Result};
use super::{Docker, existed, optional};

/// The oldest API that we speak: Docker Engine 20.10.
const LEAST_API: (u32, u32) = (1, 41);

pub(super) fn identity(docker: &Docker) -> Result<Identity> {
    let action = || "ask the engine who it is".to_owned();
    let (version, info) =
        docker.ask(action, async { futures_util::try_join!(docker.api.version(), docker.api.info()) })?;
    let api = version.api_version.unwrap_or_default();
    if api_number(&api).is_some_and(|api| api < LEAST_API) {
        return Err(EngineError::TooOld { host: docker.host.clone(), api });
    }
    let named =
        |name: &str| version.components.iter().flatten().any(|component| component.name.contains(name));
    let containerd =
        info.driver_status.iter().flatten().flatten().any(|text| text.contains("io.containerd.snapshotter"));
    let store = match (named("Podman"), containerd) {
        (true, _) => ImageStore::Podman,
        (false, true) => ImageStore::Containerd,
        (false, false) => ImageStore::Graph,
    };
    // Podman has no id; its host name and storage root stand in for one.
    let id = info.id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
        format!("{}:{}", info.name.unwrap_or_default(), info.docker_root_dir.unwrap_or_default())
    });
    Ok(Identity {
        id,
        store,
        driver: info.driver.unwrap_or_default(),
        version: version.version.unwrap_or_default(),
        os: version.os.unwrap_or_else(|| "linux".to_owned()),
        architecture: version.arch.unwrap_or_default(),
    })
}

pub(super) fn api_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

pub(super) fn list(docker: &Docker) -> Result<Vec<Image>> {
    let options = ListImagesOptionsBuilder::new().digests(true).build();
    let found = docker.ask(|| "list the images".to_owned(), docker.api.list_images(Some(options)))?;
    let named = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("<none>")).collect();
    let image = |image: bollard::models::ImageSummary| {
        Ok(Image {
            id: digest("list the images", &image.id)?,
            tags: named(image.repo_tags),
            repo_digests: named(image.repo_digests),
            labels: sorted_pairs(image.labels),
            created: image.created,
            size: u64::try_from(image.size).unwrap_or(0),
        })
    };
    found.into_iter().map(image).collect()
}

pub(super) fn inspect(docker: &Docker, reference: &str) -> Result<Option<ImageDetails>> {
    let action = || format!("inspect image {reference}");
    let found = optional(docker.ask(action, docker.api.inspect_image(reference)))?;
    found.map(|image| details(&action(), image)).transpose()
}

fn details(action: &str, image: ImageInspect) -> Result<ImageDetails> {
    let layers = image.root_fs.and_then(|root| root.layers).unwrap_or_default();
    let diff_ids = layers.iter().map(|layer| digest(action, layer).map(DiffId)).collect::<Result<_>>()?;
    let config = serde_json::to_value(image.config.unwrap_or_default())
        .map_err(|error| EngineError::Broken { action: action.to_owned(), message: error.to_string() })?;
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    Ok(ImageDetails {
        id: digest(action, &image.id.unwrap_or_default())?,
        tags: image.repo_tags.unwrap_or_default(),
        repo_digests: image.repo_digests.unwrap_or_default(),
        diff_ids,
        created: some(image.created),
        tagged: some(image.metadata.and_then(|metadata| metadata.last_tag_time))
            .filter(|time| !time.starts_with("0001-")),
        author: some(image.author),
        os: image.os.unwrap_or_default(),
        architecture: image.architecture.unwrap_or_default(),
        variant: some(image.variant),
        config: tidy(config),
        size: u64::try_from(image.size.unwrap_or(0)).unwrap_or(0),
    })
}

/// The same object with its keys in order, and at its top without what is not set.
fn tidy(config: Value) -> Value {
    let Value::Object(config) = config else { return config };
    let unset = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Number(_) => false,
    };
    ordered(Value::Object(config.into_iter().filter(|(_, value)| !unset(value)).collect()))
}

fn ordered(value: Value) -> Value {
    let Value::Object(fields) = value else { return value };
    let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, ordered(value))).collect();
    fields.sort_by(|left, right| left.0.cmp(&right.0));
    Value::Object(fields.into_iter().collect())
}

fn sorted_pairs(map: HashMap<String, String>) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = map.into_iter().collect();
    pairs.sort();
    pairs
}

/// A digest in the engine's answer; Podman leaves out the algorithm.
pub(super) fn digest(action: &str, text: &str) -> Result<Digest> {
    let whole = if text.contains(':') { text.to_owned() } else { format!("sha256:{text}") };
    whole.parse().map_err(|_| EngineError::Broken {
        action: action.to_owned(),
        message: format!("the engine answered with `{text}` where an image id belongs"),
    })
}

pub(super) fn tag(docker: &Docker, image: &str, name: &str) -> Result<()> {
    let (repository, tag) = split_tag(name);
    let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
    docker.ask(|| format!("tag {image} as {name}"), docker.api.tag_image(image, Some(options)))
}

/// Repository and tag of a name; `latest` where it has none.
pub(super) fn split_tag(name: &str) -> (&str, &str) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    }
}

pub(super) fn remove(docker: &Docker, reference: &str, force: bool) -> Result<bool> {
    let options = RemoveImageOptionsBuilder::new().force(force).build();
    let request = async { docker.api.remove_image(reference, Some(options), None).await.map(|_| ()) };
    existed(docker.ask(|| format!("remove image {reference}"), request))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_split_at_the_tag_and_not_at_a_port() {
        assert_eq!(split_tag("redis:3.2"), ("redis", "3.2"));
        assert_eq!(split_tag("redis"), ("redis", "latest"));
        assert_eq!(split_tag("host:5000/a/b"), ("host:5000/a/b", "latest"));
        assert_eq!(split_tag("host:5000/a/b:c"), ("host:5000/a/b", "c"));
    }

    #[test]
    fn an_api_inspection_becomes_plain_details() {
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let answer = json!({
            "Id": format!("sha256:{hex}"), "RepoTags": ["a:1"], "RepoDigests": null, "Created": "2026-01-02T03:04:05Z",
            "Author": "", "Architecture": "amd64", "Os": "linux", "Size": 7,
            "RootFS": {"Type": "layers", "Layers": [format!("sha256:{hex}")]},
            "Config": {"User": "", "Env": ["A=b"], "Volumes": {"/b": {}, "/a": {}}, "Labels": {"z": "1", "a": "2"},
                       "Healthcheck": {"Test": ["CMD", "true"]}},
        });
        let image = details("inspect", serde_json::from_value(answer).unwrap()).unwrap();
        assert_eq!(image.volumes(), ["/a", "/b"]);
        assert!(image.has_healthcheck());
        assert_eq!(image.diff_ids.len(), 1);
        assert_eq!(image.author, None);
        assert_eq!(image.config["Labels"].to_string(), r#"{"a":"2","z":"1"}"#);
        assert_eq!(image.config.get("User"), None);
    }

    #[test]
    fn nonsense_instead_of_an_id_is_an_error() {
        assert!(digest("list", "sha256:12").is_err());
    }
}
