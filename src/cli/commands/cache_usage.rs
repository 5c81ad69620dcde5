//! What `cache du` prints: the store by kind, by service, and piece by piece; as tables or as JSON. Pure.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::cli::render::Table;
use crate::cli::render::text::size;
use crate::oci::Reference;
use crate::store::{Held, Inventory, PieceKind, PieceLine, Share, Usage};
use crate::up::human_duration;

/// What is shown.
pub(super) struct Shown<'s> {
    pub(super) inventory: &'s Inventory,
    /// The limit below which the store is kept.
    pub(super) limit: Option<u64>,
    /// Every piece.
    pub(super) verbose: bool,
    pub(super) now: SystemTime,
}

impl Shown<'_> {
    fn age(&self, used: Option<SystemTime>) -> String {
        let Some(used) = used else { return "-".to_owned() };
        let age = self.now.duration_since(used).unwrap_or(Duration::ZERO);
        format!("{} ago", human_duration(age.as_secs()))
    }
}

/// Tables for people.
pub(super) fn text(shown: &Shown<'_>) -> String {
    let usage = shown.inventory.usage();
    let mut text = kinds(&usage);
    text.push('\n');
    text.push_str(&services(shown));
    if shown.verbose {
        text.push('\n');
        text.push_str(&pieces(shown));
    }
    let limit = shown.limit.map_or_else(|| "none".to_owned(), size);
    let (reclaimable, all) = (size(usage.reclaimable_bytes), size(usage.all_reclaimable_bytes));
    text.push_str(&format!("\nTotal: {} (limit: {limit})\n", size(usage.bytes())));
    text.push_str(&format!("Reclaimable: {reclaimable} (with --all: {all})\n"));
    text
}

fn kinds(usage: &Usage) -> String {
    let mut table = Table::new(&["TYPE", "TOTAL", "SIZE"]);
    let mut row = |kind: &str, count: usize, bytes: u64| {
        table.row(vec![kind.to_owned(), count.to_string(), size(bytes)])
    };
    row("Snapshots", usage.snapshots, usage.snapshot_bytes);
    row("Blobs", usage.blobs, usage.blob_bytes);
    row("Cache mounts", usage.mounts, usage.mount_bytes);
    row("Records and caches", usage.records, usage.other_bytes);
    table.text()
}

fn services(shown: &Shown<'_>) -> String {
    let mut table = Table::new(&["SERVICE", "PIECES", "SIZE", "OWN", "SHARED", "LAST USED"]);
    let shares = shown.inventory.shares();
    let mut row = |label: String, share: &Share| {
        let bytes = [share.bytes, share.own_bytes, share.bytes - share.own_bytes].map(size);
        let [all, own, shared] = bytes;
        table.row(vec![label, share.pieces.to_string(), all, own, shared, shown.age(share.used)]);
    };
    for (label, share) in &shares.owners {
        row(label.clone(), share);
    }
    row("(no service)".to_owned(), &shares.rest);
    table.text()
}

fn pieces(shown: &Shown<'_>) -> String {
    let mut table = Table::new(&["ID", "TYPE", "SIZE", "LAST USED", "HELD BY"]);
    for line in shown.inventory.lines() {
        let (id, kind) = named(&line);
        let names = line.names.iter().map(|name| familiar(name));
        let holders: Vec<_> = names.chain(line.steps.clone()).collect();
        let holders = if holders.is_empty() { "-".to_owned() } else { holders.join(", ") };
        let short = if matches!(line.what, PieceKind::Held(_)) { id[..12].to_owned() } else { id };
        table.row(vec![short, kind.to_owned(), size(line.bytes), shown.age(line.used), holders]);
    }
    table.text()
}

/// A name as users write it; what is none (a pin) stays.
pub(super) fn familiar(name: &str) -> String {
    Reference::parse(name).map_or_else(|_| name.to_owned(), |name| name.familiar())
}

/// Id and kind of a piece.
fn named(line: &PieceLine<'_>) -> (String, &'static str) {
    match line.what {
        PieceKind::Held(Held::Snapshot(id)) => (id.0.hex(), "snapshot"),
        PieceKind::Held(Held::Blob(id)) => (id.0.hex(), "blob"),
        PieceKind::Cache(cache) => (cache.id.clone(), "cache mount"),
    }
}

/// The same for programs.
pub(super) fn json(shown: &Shown<'_>) -> Value {
    let (usage, shares) = (shown.inventory.usage(), shown.inventory.shares());
    let services = shown.inventory.owners.iter().zip(&shares.owners);
    let services: Vec<_> = services
        .map(|(owner, (_, part))| {
            let mut service = json!({"project": owner.project, "service": owner.service});
            merge(&mut service, share(part));
            service
        })
        .collect();
    let mut object = json!({
        "snapshots": {"count": usage.snapshots, "bytes": usage.snapshot_bytes},
        "blobs": {"count": usage.blobs, "bytes": usage.blob_bytes},
        "mounts": {"count": usage.mounts, "bytes": usage.mount_bytes},
        "records": {"count": usage.records, "bytes": usage.other_bytes},
        "bytes": usage.bytes(),
        "limit_bytes": shown.limit,
        "reclaimable_bytes": usage.reclaimable_bytes,
        "all_reclaimable_bytes": usage.all_reclaimable_bytes,
        "services": services,
        "no_service": share(&shares.rest),
    });
    if shown.verbose {
        let pieces: Vec<_> = shown.inventory.lines().iter().map(piece).collect();
        merge(&mut object, json!({"pieces": pieces}));
    }
    object
}

fn share(share: &Share) -> Value {
    json!({
        "pieces": share.pieces,
        "bytes": share.bytes,
        "own_bytes": share.own_bytes,
        "shared_bytes": share.bytes - share.own_bytes,
        "last_used": seconds(share.used),
    })
}

fn piece(line: &PieceLine<'_>) -> Value {
    let (id, kind) = named(line);
    json!({
        "id": id,
        "type": kind,
        "bytes": line.bytes,
        "last_used": seconds(line.used),
        "names": line.names,
        "steps": line.steps,
    })
}

/// Seconds since 1970.
fn seconds(used: Option<SystemTime>) -> Option<u64> {
    Some(used?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

fn merge(object: &mut Value, more: Value) {
    if let (Value::Object(object), Value::Object(more)) = (object, more) {
        object.extend(more);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::PathBuf;

    use super::*;
    use crate::base::digest::{BlobId, Digest, ResultId};
    use crate::store::{Kept, KeptCache, OwnedStep, Owner, Piece};

    const HOUR: Duration = Duration::from_secs(3600);

    fn inventory() -> Inventory {
        let id = |number: u8| ResultId(Digest::from_bytes([number; 32]));
        let (base, top, blob) =
            (Held::Snapshot(id(1)), Held::Snapshot(id(2)), Held::Blob(BlobId(Digest::from_bytes([3; 32]))));
        let piece = |bytes, chain| Piece { bytes, chain };
        let used = SystemTime::UNIX_EPOCH + HOUR * 8;
        let step = |name: &str, holds: &[Held]| OwnedStep { name: name.to_owned(), holds: holds.to_vec() };
        let owner =
            |service: &str, steps| Owner { project: "pack".to_owned(), service: service.to_owned(), steps };
        Inventory {
            records: vec![Kept { result: id(2), files: Vec::new(), holds: BTreeSet::from([top]), used }],
            pieces: [
                (base, piece(117_000_000, vec![])),
                (top, piece(2000, vec![id(1)])),
                (blob, piece(9, vec![])),
            ]
            .into(),
            names: vec![("web:latest".to_owned(), vec![top])],
            owners: vec![
                owner("api", vec![step("base/1", &[base])]),
                owner("web", vec![step("final/2", &[top])]),
            ],
            mounts: vec![KeptCache { folder: PathBuf::new(), id: "/npm".to_owned(), bytes: 40, used }],
            other_bytes: 12,
            ..Inventory::default()
        }
    }

    #[test]
    fn usage_is_shown_by_kind_by_service_and_by_piece() {
        let inventory = inventory();
        let now = SystemTime::UNIX_EPOCH + HOUR * 10;
        let expected = "\
TYPE                 TOTAL     SIZE
Snapshots            2         117MB
Blobs                1         9B
Cache mounts         1         40B
Records and caches   1         12B

SERVICE        PIECES    SIZE      OWN       SHARED    LAST USED
pack/api       1         117MB     0B        117MB     2 hours ago
pack/web       2         117MB     2kB       117MB     2 hours ago
(no service)   1         9B        9B        0B        -

ID             TYPE          SIZE      LAST USED     HELD BY
010101010101   snapshot      117MB     2 hours ago   web:latest, pack/api base/1, pack/web
020202020202   snapshot      2kB       2 hours ago   web:latest, pack/web final/2
/npm           cache mount   40B       2 hours ago   -
030303030303   blob          9B        -             -

Total: 117MB (limit: 1GB)
Reclaimable: 9B (with --all: 49B)
";
        let mut shown = Shown { inventory: &inventory, limit: Some(1_000_000_000), verbose: true, now };
        assert_eq!(text(&shown), expected);
        let object = json(&shown);
        assert_eq!(object["services"][1]["own_bytes"], 2000);
        assert_eq!(object["pieces"][1]["steps"][0], "pack/web final/2");
        assert_eq!(object["no_service"]["bytes"], 9);
        shown.verbose = false;
        assert!(!text(&shown).contains("HELD BY") && json(&shown).get("pieces").is_none());
    }
}
