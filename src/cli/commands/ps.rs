//! `ps`. The texts are pure.

use std::process::ExitCode;

use serde_json::json;

use crate::cli::args::Ps;
use crate::cli::failure::Failure;
use crate::cli::moment;
use crate::cli::render::text::shorten;
use crate::cli::render::{Item, Listing, go, listing};
use crate::compose::Project;
use crate::store::Stamp;
use crate::up::{Row, containers, human_duration, ports_text, ps as rows};

use super::{Context, Ended};

/// Lists the project's containers.
pub(in crate::cli) fn ps(context: &mut Context<'_>, flags: &Ps) -> Ended {
    let states = states(flags).map_err(Failure::Usage)?;
    let (name, project) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let mut rows = rows(&containers(&engine, &name)?, &flags.services, flags.all || !states.is_empty());
    rows.retain(|row| {
        let has = |project: &Project| project.services.contains_key(&row.service);
        let known = flags.orphans || project.as_ref().is_none_or(has);
        known && (states.is_empty() || states.iter().any(|state| state == row.state.name()))
    });
    let text = if flags.quiet {
        rows.iter().map(|row| format!("{}\n", row.id)).collect()
    } else if flags.only_services {
        services(&rows)
    } else {
        let items: Vec<_> = rows.iter().map(|row| item(row, &name, flags.no_trunc, Stamp::now())).collect();
        listing(&PS, &flags.format, &items).map_err(Failure::Usage)?
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// The states of `--status` and of `--filter status=…`.
fn states(flags: &Ps) -> Result<Vec<String>, String> {
    let mut states = flags.status.clone();
    for filter in &flags.filter {
        match filter.split_once('=') {
            Some(("status", state)) => states.push(state.to_owned()),
            Some((key, _)) => return Err(format!("there is no filter `{key}`: only status=STATE")),
            None => return Err(format!("a filter must be status=STATE, not `{filter}`")),
        }
    }
    Ok(states)
}

/// Each service once, in the order of the rows; an empty line if there is none, as with Docker Compose.
fn services(rows: &[Row]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for row in rows {
        if !names.contains(&row.service.as_str()) {
            names.push(&row.service);
        }
    }
    format!("{}\n", names.join("\n"))
}

const PS: Listing = Listing {
    table: "{{.Name}}\t{{.Image}}\t{{.Command}}\t{{.Service}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}",
    raw: Some(
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\n\
         state: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\n\
         labels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
    ),
    headers: &[
        ("ID", "CONTAINER ID"),
        ("Name", "NAME"),
        ("Project", "PROJECT"),
        ("Service", "SERVICE"),
        ("Image", "IMAGE"),
        ("Command", "COMMAND"),
        ("CreatedAt", "CREATED AT"),
        ("RunningFor", "CREATED"),
        ("Ports", "PORTS"),
        ("State", "STATE"),
        ("Status", "STATUS"),
        ("Size", "SIZE"),
        ("Labels", "LABELS"),
    ],
};

/// The fields of Docker Compose. Sizes on disk are not asked for, there as here.
fn item(row: &Row, project: &str, whole: bool, now: Stamp) -> Item {
    let publishers: Vec<_> = row
        .ports
        .iter()
        .map(|port| {
            json!({
                "URL": port.host_ip.as_deref().unwrap_or_default(),
                "TargetPort": port.port,
                "PublishedPort": port.host_port.unwrap_or(0),
                "Protocol": port.protocol,
            })
        })
        .collect();
    let shortened = |text: &str, width| if whole { text.to_owned() } else { shorten(text, width) };
    let labels: Vec<_> = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mounts: Vec<_> =
        row.mounts.iter().map(|mount| shortened(mount.name.as_ref().unwrap_or(&mount.source), 15)).collect();
    let local = row.mounts.iter().filter(|mount| mount.driver == "local").count();
    let fields = [
        ("Command", json!(go::quoted(&shortened(&row.command, 20)))),
        ("CreatedAt", json!(moment::go(row.created))),
        ("ExitCode", json!(exit_code(&row.status))),
        ("Health", json!(health(&row.status))),
        ("ID", json!(if whole { row.id.as_str() } else { row.id.get(..12).unwrap_or(&row.id) })),
        ("Image", json!(row.image)),
        ("Labels", json!(labels.join(","))),
        ("LocalVolumes", json!(local.to_string())),
        ("Mounts", json!(mounts.join(","))),
        ("Name", json!(row.name)),
        ("Names", json!(row.name)),
        ("Networks", json!(row.networks.join(","))),
        ("Ports", json!(ports_text(&row.ports))),
        ("Project", json!(project)),
        ("Publishers", json!(publishers)),
        ("RunningFor", json!(format!("{} ago", human_duration(age(row, now))))),
        ("Service", json!(row.service)),
        ("Size", json!("0B")),
        ("State", json!(row.state.name())),
        ("Status", json!(row.status)),
    ];
    let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Item { fields, labels: row.labels.clone() }
}

fn age(row: &Row, now: Stamp) -> u64 {
    now.seconds.saturating_sub(u64::try_from(row.created).unwrap_or(0))
}

/// The health in the engine's sentence: `Up 3 seconds (healthy)`, `(health: starting)`.
fn health(status: &str) -> &str {
    let inside = status.rsplit_once('(').and_then(|(_, inside)| inside.strip_suffix(')'));
    let word = inside.map_or("", |inside| inside.trim_start_matches("health: "));
    if matches!(word, "healthy" | "unhealthy" | "starting") { word } else { "" }
}

/// The code in the engine's sentence: `Exited (3) 2 minutes ago`.
fn exit_code(status: &str) -> i64 {
    let inside = status.strip_prefix("Exited (").and_then(|rest| rest.split_once(')'));
    inside.and_then(|(code, _)| code.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::engine::{PublishedPort, State};

    fn row() -> Row {
        Row {
            id: "0123456789abcdef".to_owned(),
            name: "pack-nginx-1".to_owned(),
            image: "pack-nginx".to_owned(),
            image_id: None,
            command: "/docker-entrypoint.sh nginx".to_owned(),
            service: "nginx".to_owned(),
            number: 1,
            created: 1000,
            state: State::Running,
            status: "Up 4 seconds (health: starting)".to_owned(),
            ports: vec![PublishedPort {
                host_ip: Some("0.0.0.0".to_owned()),
                host_port: Some(80),
                port: 80,
                protocol: "tcp".to_owned(),
            }],
            labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            networks: vec!["pack_default".to_owned()],
            mounts: Vec::new(),
        }
    }

    #[test]
    fn containers_are_shown_as_compose_shows_them() {
        let now = Stamp { seconds: 1005, nanos: 0 };
        let expected = "NAME           IMAGE        COMMAND                  SERVICE   CREATED         STATUS                            PORTS\n\
            pack-nginx-1   pack-nginx   \"/docker-entrypoint.…\"   nginx     5 seconds ago   Up 4 seconds (health: starting)   0.0.0.0:80->80/tcp\n";
        let items = [item(&row(), "pack", false, now)];
        assert_eq!(listing(&PS, "", &items).unwrap(), expected);
    }

    #[test]
    fn json_has_the_fields_of_compose() {
        let now = Stamp { seconds: 1005, nanos: 0 };
        let shown = |whole| listing(&PS, "json", &[item(&row(), "pack", whole, now)]).unwrap();
        let expected = r#"{"Command":"\"/docker-entrypoint.…\"","CreatedAt":"1970-01-01 00:16:40 +0000 UTC","ExitCode":0,"Health":"starting","ID":"0123456789ab","Image":"pack-nginx","Labels":"a=b","LocalVolumes":"0","Mounts":"","Name":"pack-nginx-1","Names":"pack-nginx-1","Networks":"pack_default","Ports":"0.0.0.0:80-\u003e80/tcp","Project":"pack","Publishers":[{"URL":"0.0.0.0","TargetPort":80,"PublishedPort":80,"Protocol":"tcp"}],"RunningFor":"5 seconds ago","Service":"nginx","Size":"0B","State":"running","Status":"Up 4 seconds (health: starting)"}"#;
        assert_eq!(shown(false), format!("{expected}\n"));
        assert!(shown(true).contains(r#""ID":"0123456789abcdef""#));
        assert_eq!((exit_code("Exited (137) 2 minutes ago"), health("Up 2 hours")), (137, ""));
    }

    #[test]
    fn states_come_from_two_flags() {
        let flags = |filter: &str| Ps {
            status: vec!["paused".to_owned()],
            filter: vec![filter.to_owned()],
            ..Ps::default()
        };
        assert_eq!(states(&flags("status=exited")).unwrap(), ["paused", "exited"]);
        assert!(states(&flags("name=x")).unwrap_err().contains("`name`"));
        assert!(states(&flags("exited")).unwrap_err().contains("status=STATE"));
        assert_eq!((services(&[]), services(&[row(), row()])), ("\n".to_owned(), "nginx\n".to_owned()));
    }
}
