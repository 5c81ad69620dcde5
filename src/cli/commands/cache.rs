//! `cache du` and `cache prune`.

use std::process::ExitCode;
use std::time::SystemTime;

use crate::cli::args::{CacheDu, CachePrune, TableFormat};
use crate::cli::failure::Failure;
use crate::cli::quantity;
use crate::cli::render::Table;
use crate::cli::render::text::size;
use crate::store::{Limits, Usage};

use super::{Context, Ended};

/// Prints what the store takes, by kind.
pub(in crate::cli) fn cache_du(context: &Context<'_>, flags: &CacheDu) -> Ended {
    let usage = context.store()?.usage()?;
    let text = match flags.format {
        TableFormat::Table => usage_table(&usage),
        TableFormat::Json => usage_json(&usage),
    };
    context.screen.result(&text);
    Ok(ExitCode::SUCCESS)
}

/// Removes what the limits allow, after asking.
pub(in crate::cli) fn cache_prune(context: &Context<'_>, flags: &CachePrune) -> Ended {
    let limits = limits(flags)?;
    let store = context.store()?;
    if context.settings.dry_run {
        let removals = store.inventory()?.removals(&limits, SystemTime::now());
        context.screen.result(&format!("{removals}Would free: {}\n", size(removals.bytes())));
        return Ok(ExitCode::SUCCESS);
    }
    let question = "Results of builds that no image name holds will be removed. Go on? [y/N] ";
    if !flags.force && !context.screen.confirm(question)? {
        return Err(Failure::Stopped);
    }
    let Some(removals) = store.prune(&limits)? else {
        return Err(Failure::Usage(
            "another shipway is using the store: try again when it has ended".to_owned(),
        ));
    };
    context.screen.result(&format!("{removals}Freed: {}\n", size(removals.bytes())));
    Ok(ExitCode::SUCCESS)
}

fn limits(flags: &CachePrune) -> Result<Limits, Failure> {
    let keep_bytes =
        flags.keep_storage.as_deref().map(quantity::bytes).transpose().map_err(Failure::Usage)?;
    let mut limits = Limits { keep_bytes, unused_for: None };
    for filter in &flags.filter {
        match filter.split_once('=') {
            Some(("until", text)) => {
                limits.unused_for = Some(quantity::duration(text).map_err(Failure::Usage)?);
            }
            _ => {
                return Err(Failure::Usage(format!(
                    "not supported yet: --filter {filter} (only until=DURATION)"
                )));
            }
        }
    }
    Ok(limits)
}

fn usage_table(usage: &Usage) -> String {
    let mut table = Table::new(&["TYPE", "TOTAL", "SIZE"]);
    let mut row =
        |kind: &str, count: String, bytes: u64| table.row(vec![kind.to_owned(), count, size(bytes)]);
    row("Snapshots", usage.snapshots.to_string(), usage.snapshot_bytes);
    row("Blobs", usage.blobs.to_string(), usage.blob_bytes);
    row("Cache mounts", usage.mounts.to_string(), usage.mount_bytes);
    row("Records and caches", usage.records.to_string(), usage.other_bytes);
    format!("{}\nReclaimable: {}\n", table.text(), size(usage.reclaimable_bytes))
}

fn usage_json(usage: &Usage) -> String {
    let object = serde_json::json!({
        "snapshots": {"count": usage.snapshots, "bytes": usage.snapshot_bytes},
        "blobs": {"count": usage.blobs, "bytes": usage.blob_bytes},
        "mounts": {"count": usage.mounts, "bytes": usage.mount_bytes},
        "records": {"count": usage.records, "bytes": usage.other_bytes},
        "reclaimable_bytes": usage.reclaimable_bytes,
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_shown_by_kind() {
        let usage = Usage {
            records: 3,
            snapshots: 2,
            snapshot_bytes: 117_000_000,
            blobs: 1,
            blob_bytes: 1000,
            mounts: 4,
            mount_bytes: 2000,
            other_bytes: 12,
            reclaimable_bytes: 5,
        };
        let expected = "TYPE                 TOTAL     SIZE\n\
            Snapshots            2         117MB\n\
            Blobs                1         1kB\n\
            Cache mounts         4         2kB\n\
            Records and caches   3         12B\n\nReclaimable: 5B\n";
        assert_eq!(usage_table(&usage), expected);
        assert!(usage_json(&usage).contains(r#""blobs":{"count":1,"bytes":1000}"#));
    }

    #[test]
    fn limits_are_read_from_the_flags() {
        let flags = CachePrune {
            keep_storage: Some("1k".to_owned()),
            filter: vec!["until=1h".to_owned()],
            ..CachePrune::default()
        };
        let limits = limits(&flags).unwrap();
        assert_eq!(
            (limits.keep_bytes, limits.unused_for),
            (Some(1024), Some(std::time::Duration::from_secs(3600)))
        );
        let flags = CachePrune { filter: vec!["label=x".to_owned()], ..CachePrune::default() };
        assert!(super::limits(&flags).unwrap_err().to_string().starts_with("not supported yet: --filter"));
    }
}
