//! `images`: the images that a project's containers use. The texts are pure.

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::{Images, TableFormat};
use crate::cli::moment;
use crate::cli::render::Table;
use crate::cli::render::text::size;
use crate::engine::{Engine, ImageDetails};
use crate::oci::Reference;
use crate::store::Stamp;
use crate::up::{Row, containers, human_duration, ps};

use super::{Context, Ended};

/// Lists the images of the project's containers.
pub(in crate::cli) fn images(context: &mut Context<'_>, flags: &Images) -> Ended {
    let (name, _) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let rows = ps(&containers(&engine, &name)?, &flags.services, true);
    let used = used(&engine, &rows)?;
    let text = match (flags.quiet, flags.format) {
        (true, _) => ids(&used),
        (_, TableFormat::Table) => table(&used, Stamp::now()),
        (_, TableFormat::Json) => json_text(&used),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// A container's image; without details where the engine has it no more.
struct Used {
    container: String,
    image: String,
    details: Option<ImageDetails>,
}

/// Asks the engine once about each image: the one that the container was made of, else the one of its name.
fn used(engine: &dyn Engine, rows: &[Row]) -> crate::engine::Result<Vec<Used>> {
    let mut known: BTreeMap<(Option<String>, String), Option<ImageDetails>> = BTreeMap::new();
    let mut found = Vec::new();
    for row in rows {
        let id = row.image_id.map(|id| id.to_string());
        let key = (id.clone(), row.image.clone());
        if !known.contains_key(&key) {
            let by_id = id.as_deref().map(|id| engine.image(id)).transpose()?.flatten();
            let details = if by_id.is_some() { by_id } else { engine.image(&row.image)? };
            known.insert(key.clone(), details);
        }
        let details = known.get(&key).cloned().flatten();
        found.push(Used { container: row.name.clone(), image: row.image.clone(), details });
    }
    Ok(found)
}

impl Used {
    /// The image's name and tag as the user would write them; empty where there is none.
    fn name(&self) -> (String, String) {
        if self.image.starts_with("sha256:") {
            return Default::default();
        }
        match Reference::parse(&self.image) {
            Ok(name) if self.image.contains('@') => (name.familiar_name(), String::new()),
            Ok(name) => {
                let name = name.with_default_tag();
                (name.familiar_name(), name.tag().unwrap_or_default().to_owned())
            }
            Err(_) => Default::default(),
        }
    }

    fn id(&self) -> String {
        self.details.as_ref().map(|details| details.id.to_string()).unwrap_or_default()
    }

    fn platform(&self) -> String {
        let Some(details) = &self.details else { return String::new() };
        let variant = details.variant.as_ref().map(|variant| format!("/{variant}")).unwrap_or_default();
        format!("{}/{}{variant}", details.os, details.architecture)
    }

    fn bytes(&self) -> u64 {
        self.details.as_ref().map_or(0, |details| details.size)
    }

    /// When the image was made, else when this engine got it.
    fn age(&self, now: Stamp) -> String {
        let details = self.details.as_ref();
        let time = details.and_then(|details| details.created.as_ref().or(details.tagged.as_ref()));
        let made = time.and_then(|time| moment::moment(time, now).ok());
        made.map_or_else(
            || "N/A".to_owned(),
            |made| {
                let seconds = (moment::nanoseconds(now) - made).div_euclid(moment::SECOND);
                format!("{} ago", human_duration(u64::try_from(seconds).unwrap_or(0)))
            },
        )
    }
}

fn hex(id: &str) -> &str {
    id.split_once(':').map_or(id, |(_, hex)| hex)
}

fn ids(used: &[Used]) -> String {
    let mut ids: Vec<String> = Vec::new();
    for id in used.iter().map(Used::id).filter(|id| !id.is_empty()) {
        let line = format!("{}\n", hex(&id));
        if !ids.contains(&line) {
            ids.push(line);
        }
    }
    ids.concat()
}

fn table(used: &[Used], now: Stamp) -> String {
    let titles = ["CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED"];
    let mut table = Table::spaced(&titles, 20, 3);
    let some = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    for one in used {
        let ((repository, tag), id) = (one.name(), one.id());
        table.row(vec![
            one.container.clone(),
            some(repository),
            some(tag),
            one.platform(),
            hex(&id).get(..12).unwrap_or_default().to_owned(),
            size(one.bytes()),
            one.age(now),
        ]);
    }
    table.text()
}

/// One array and, as Docker Compose does, an empty line.
fn json_text(used: &[Used]) -> String {
    let object = |one: &Used| {
        let (repository, tag) = one.name();
        let mut object = json!({
            "ID": one.id(),
            "ContainerName": one.container,
            "Repository": repository,
            "Tag": tag,
            "Platform": one.platform(),
            "Size": one.bytes(),
        });
        let times = one.details.as_ref().map(|details| (&details.created, &details.tagged));
        if let Some((created, tagged)) = times {
            for (name, time) in [("Created", created), ("LastTagTime", tagged)] {
                if let Some(time) = time {
                    object[name] = json!(time);
                }
            }
        }
        object
    };
    if used.is_empty() {
        return "null\n\n".to_owned();
    }
    format!("{}\n\n", serde_json::Value::from(used.iter().map(object).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;

    fn used(image: &str) -> Used {
        let details = ImageDetails {
            id: Digest::of("image"),
            tags: Vec::new(),
            repo_digests: Vec::new(),
            diff_ids: Vec::new(),
            created: None,
            tagged: Some("1970-01-01T00:00:10Z".to_owned()),
            author: None,
            os: "linux".to_owned(),
            architecture: "arm64".to_owned(),
            variant: Some("v8".to_owned()),
            config: json!({}),
            size: 1_984_185,
        };
        Used { container: "p-web-1".to_owned(), image: image.to_owned(), details: Some(details) }
    }

    #[test]
    fn images_are_shown_as_compose_shows_them() {
        let now = Stamp { seconds: 60 * 27 + 10, nanos: 0 };
        let id = Digest::of("image").to_string();
        let expected = format!(
            "CONTAINER           REPOSITORY          TAG                 PLATFORM            IMAGE ID            SIZE                CREATED\n\
             p-web-1             busybox             latest              linux/arm64/v8      {}        1.98MB              27 minutes ago\n",
            &id[7..19]
        );
        assert_eq!(table(&[used("busybox")], now), expected);
        assert_eq!(ids(&[used("busybox"), used("busybox")]), format!("{}\n", &id[7..]));
        let expected = format!(
            r#"[{{"ID":"{id}","ContainerName":"p-web-1","Repository":"busybox","Tag":"latest","Platform":"linux/arm64/v8","Size":1984185,"LastTagTime":"1970-01-01T00:00:10Z"}}]"#
        );
        assert_eq!(json_text(&[used("busybox:latest")]), format!("{expected}\n\n"));
    }

    #[test]
    fn an_image_without_a_name_or_that_is_gone_is_shown_too() {
        assert_eq!(used("sha256:12").name(), (String::new(), String::new()));
        let digest = format!("host:5000/a@{}", Digest::of("x"));
        assert_eq!(used(&digest).name(), ("host:5000/a".to_owned(), String::new()));
        let gone = Used { details: None, ..used("busybox") };
        let row = table(&[gone], Stamp { seconds: 0, nanos: 0 });
        assert!(row.ends_with("0B                  N/A\n"), "{row}");
    }
}
