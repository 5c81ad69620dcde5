//! `volumes`. The texts are pure.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::Volumes;
use crate::cli::failure::Failure;
use crate::cli::render::{Item, Listing, listing};
use crate::engine::{Engine, Volume};
use crate::up::{containers, volumes as chosen};

use super::{Context, Ended};

/// Lists the project's volumes.
pub(in crate::cli) fn volumes(context: &mut Context<'_>, flags: &Volumes) -> Ended {
    let (name, _) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let all = engine.volumes()?;
    // Who mounts what matters only where services are named.
    let mounted = if flags.services.is_empty() { Vec::new() } else { containers(&engine, &name)? };
    let found = chosen(&name, &all, &mounted, &flags.services);
    let text = if flags.quiet {
        found.iter().map(|volume| format!("{}\n", volume.name)).collect()
    } else {
        let items: Vec<_> = found.into_iter().map(item).collect();
        listing(&VOLUMES, &flags.format, &items).map_err(Failure::Usage)?
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

const VOLUMES: Listing = Listing {
    table: "{{.Driver}}\t{{.Name}}",
    raw: Some("name: {{.Name}}\ndriver: {{.Driver}}\n"),
    headers: &[
        ("Name", "VOLUME NAME"),
        ("Driver", "DRIVER"),
        ("Scope", "SCOPE"),
        ("Availability", "AVAILABILITY"),
        ("Mountpoint", "MOUNTPOINT"),
        ("Labels", "LABELS"),
        ("Links", "LINKS"),
        ("Size", "SIZE"),
        ("Group", "GROUP"),
        ("Status", "STATUS"),
    ],
};

/// The fields of the docker command; what only a cluster or `system df` knows is `N/A`.
fn item(volume: &Volume) -> Item {
    let labels: Vec<_> = volume.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let fields = [
        ("Availability", json!("N/A")),
        ("Driver", json!(volume.driver)),
        ("Group", json!("N/A")),
        ("Labels", json!(labels.join(","))),
        ("Links", json!("N/A")),
        ("Mountpoint", json!(volume.mountpoint)),
        ("Name", json!(volume.name)),
        ("Scope", json!(volume.scope)),
        ("Size", json!("N/A")),
        ("Status", json!("N/A")),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Item { fields, labels: volume.labels.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_shown_as_compose_shows_them() {
        let volume = Volume {
            name: "p_data".to_owned(),
            driver: "local".to_owned(),
            mountpoint: "/v".to_owned(),
            scope: "local".to_owned(),
            labels: [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())].into(),
        };
        let shown = |format: &str| listing(&VOLUMES, format, &[item(&volume)]).unwrap();
        assert_eq!(shown("table"), "DRIVER    VOLUME NAME\nlocal     p_data\n");
        let expected = r#"{"Availability":"N/A","Driver":"local","Group":"N/A","Labels":"a=b,c=d","Links":"N/A","Mountpoint":"/v","Name":"p_data","Scope":"local","Size":"N/A","Status":"N/A"}"#;
        assert_eq!(shown("json"), format!("{expected}\n"));
        assert_eq!(shown("raw"), "name: p_data\ndriver: local\n\n");
    }
}
