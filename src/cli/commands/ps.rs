//! `ps`. The texts are pure.

use std::collections::BTreeSet;
use std::process::ExitCode;

use crate::cli::args::{Ps, TableFormat};
use crate::cli::render::Table;
use crate::cli::render::text::shorten;
use crate::compose::Project;
use crate::store::Stamp;
use crate::up::{Row, human_duration, observe, ports_text, ps as rows};

use super::{Context, Ended};

/// Lists the project's containers.
pub(in crate::cli) fn ps(context: &mut Context<'_>, flags: &Ps) -> Ended {
    let (name, project) = context.named(&flags.services)?;
    let engine = context.needed_engine()?;
    let seen = observe(&engine, &name)?;
    let mut rows = rows(&seen, &flags.services, flags.all || !flags.status.is_empty());
    rows.retain(|row| {
        let has = |project: &Project| project.services.contains_key(&row.service);
        let known = flags.orphans || project.as_ref().is_none_or(has);
        known && (flags.status.is_empty() || flags.status.iter().any(|state| state == row.state.name()))
    });
    let text = match (flags.quiet, flags.only_services, flags.format) {
        (true, ..) => rows.iter().map(|row| format!("{}\n", row.id)).collect(),
        (_, true, _) => {
            let services: BTreeSet<_> = rows.iter().map(|row| row.service.as_str()).collect();
            services.into_iter().map(|service| format!("{service}\n")).collect()
        }
        (.., TableFormat::Table) => table(&rows, flags.no_trunc, Stamp::now()),
        (.., TableFormat::Json) => rows.iter().map(|row| json(row, &name)).collect(),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// The columns of Docker Compose.
fn table(rows: &[Row], whole: bool, now: Stamp) -> String {
    let mut table = Table::new(&["NAME", "IMAGE", "COMMAND", "SERVICE", "CREATED", "STATUS", "PORTS"]);
    for row in rows {
        let command = if whole { row.command.clone() } else { shorten(&row.command, 20) };
        table.row(vec![
            row.name.clone(),
            row.image.clone(),
            format!("\"{command}\""),
            row.service.clone(),
            format!("{} ago", human_duration(age(row, now))),
            row.status.clone(),
            ports_text(&row.ports),
        ]);
    }
    table.text()
}

fn age(row: &Row, now: Stamp) -> u64 {
    now.seconds.saturating_sub(u64::try_from(row.created).unwrap_or(0))
}

/// The fields of Docker Compose, as far as the engine's list has them.
fn json(row: &Row, project: &str) -> String {
    let publishers: Vec<_> = row
        .ports
        .iter()
        .map(|port| {
            serde_json::json!({
                "URL": port.host_ip.as_deref().unwrap_or_default(),
                "TargetPort": port.port,
                "PublishedPort": port.host_port.unwrap_or(0),
                "Protocol": port.protocol,
            })
        })
        .collect();
    let labels: Vec<_> = row.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let object = serde_json::json!({
        "Command": format!("\"{}\"", row.command),
        "CreatedAt": row.created,
        "Health": health(&row.status),
        "ID": row.id,
        "Image": row.image,
        "Labels": labels.join(","),
        "Name": row.name,
        "Names": row.name,
        "Networks": row.networks.join(","),
        "Ports": ports_text(&row.ports),
        "Project": project,
        "Publishers": publishers,
        "RunningFor": format!("{} ago", human_duration(age(row, Stamp::now()))),
        "Service": row.service,
        "State": row.state.name(),
        "Status": row.status,
        "ExitCode": exit_code(&row.status),
    });
    format!("{object}\n")
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
        }
    }

    #[test]
    fn containers_are_shown_as_compose_shows_them() {
        let now = Stamp { seconds: 1005, nanos: 0 };
        let expected = "NAME           IMAGE        COMMAND                  SERVICE   CREATED         STATUS                            PORTS\n\
            pack-nginx-1   pack-nginx   \"/docker-entrypoint.…\"   nginx     5 seconds ago   Up 4 seconds (health: starting)   0.0.0.0:80->80/tcp\n";
        assert_eq!(table(&[row()], false, now), expected);
    }

    #[test]
    fn json_has_the_fields_of_compose() {
        let object: serde_json::Value = serde_json::from_str(&json(&row(), "pack")).unwrap();
        assert_eq!((&object["Health"], &object["State"]), (&"starting".into(), &"running".into()));
        assert_eq!(object["Publishers"][0]["PublishedPort"], 80);
        assert_eq!((exit_code("Exited (137) 2 minutes ago"), health("Up 2 hours")), (137, ""));
    }
}
