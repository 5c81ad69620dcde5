//! `cache du`, `cache prune`, `cache verify`, and keeping the store small after a command that filled it.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use crate::base::event::{Event, Events};
use crate::build::{OnDemand, damage, owners};
use crate::cli::args::{CacheDu, CachePrune, CacheVerify, TableFormat};
use crate::cli::failure::Failure;
use crate::cli::quantity;
use crate::cli::render::text::size;
use crate::store::{Inventory, Limits, Patience, Pruned, Removal, Removals, Store, Trimmed};

use super::cache_usage::{Shown, familiar, json, text};
use super::{Context, Ended};

/// Prints what the store takes, by kind and by service.
pub(in crate::cli) fn cache_du(context: &Context<'_>, flags: &CacheDu) -> Ended {
    let store = context.store()?;
    let inventory = inventory(&store)?;
    let limit = context.settings.cache_limit.bytes(store.capacity()?.0);
    let shown = Shown { inventory: &inventory, limit, verbose: flags.verbose, now: SystemTime::now() };
    context.screen.result(&match flags.format {
        TableFormat::Table => text(&shown),
        TableFormat::Json => format!("{}\n", json(&shown)),
    });
    Ok(ExitCode::SUCCESS)
}

/// Removes what the limits allow, after asking.
pub(in crate::cli) fn cache_prune(context: &Context<'_>, flags: &CachePrune) -> Ended {
    let limits = limits(flags)?;
    let store = context.store()?;
    if context.settings.dry_run {
        let inventory = inventory(&store)?;
        let removals = inventory.removals(&limits, SystemTime::now());
        let remaining = inventory.bytes().saturating_sub(removals.bytes());
        let pruned = Pruned { removals, remaining, named: inventory.named_bytes() };
        context.screen.result(&summary(&pruned, "Would free"));
        return Ok(ExitCode::SUCCESS);
    }
    if !flags.force && !context.screen.confirm(question(&limits))? {
        return Err(Failure::Stopped);
    }
    let waiting = |users: &[u32]| tell_wait(context, users);
    let patience = Patience { limit: flags.wait.0, waiting: &waiting };
    let Some(pruned) = store.prune(&limits, &|| owners(&store), patience)? else {
        return Err(in_use(&store, flags.wait.0));
    };
    context.screen.result(&summary(&pruned, "Freed"));
    Ok(ExitCode::SUCCESS)
}

/// Digests again what is in the store; fails if something is damaged and stays.
pub(in crate::cli) fn cache_verify(context: &Context<'_>, flags: &CacheVerify) -> Ended {
    context.needs_root()?;
    let store = context.store()?;
    let inventory = store.inventory()?;
    let (all, mut done) = (inventory.bytes() - inventory.other_bytes, 0);
    let what = || "verify".to_owned();
    let mut seen = |bytes| {
        done += bytes;
        context.screen.emit(Event::Transfer { what: what(), done, total: Some(all) });
    };
    let found = damage(&store, &OnDemand::new(&store), &inventory, &mut seen)?;
    context.screen.finish();
    let incomplete = inventory.incomplete_names();
    if found.steps.is_empty() && incomplete.is_empty() {
        context.screen.result(&format!("{} digested: nothing is damaged\n", size(done)));
        return Ok(ExitCode::SUCCESS);
    }
    let text = damage_text(&found, &inventory);
    if found.steps.is_empty() {
        context.screen.result(&text);
        return Ok(ExitCode::FAILURE);
    }
    if !flags.remove || context.settings.dry_run {
        let text = format!("{text}Damaged: {} (`--remove` takes it away)\n", found.steps.len());
        context.screen.result(&text);
        return Ok(ExitCode::FAILURE);
    }
    let waiting = |users: &[u32]| tell_wait(context, users);
    if !store.remove(&found, Patience { limit: flags.wait.0, waiting: &waiting })? {
        context.screen.result(&text);
        return Err(in_use(&store, flags.wait.0));
    }
    context.screen.result(&format!("{text}Removed: {}\n", found.steps.len()));
    Ok(ExitCode::SUCCESS)
}

/// Keeps the store below its limit after a command that published something. The command has done its work:
/// what goes wrong here is only said.
pub(super) fn keep_small(context: &Context<'_>, store: &Store) {
    let event = match store.trim(&|capacity| context.settings.cache_limit.bytes(capacity)) {
        Ok(Trimmed::Fits) => return,
        Ok(Trimmed::InUse(bytes, most)) => Event::Notice(format!(
            "the store takes {}, more than its limit of {}: it is trimmed after {} has ended",
            size(bytes),
            size(most),
            others(&store.users())
        )),
        Ok(Trimmed::Done(pruned, most)) => trimmed(&pruned, most),
        Err(error) => Event::Warning(format!("cannot keep the store below its limit: {error}")),
    };
    context.screen.emit(event);
}

fn trimmed(pruned: &Pruned, most: u64) -> Event {
    let (freed, remaining, most) = (pruned.removals.bytes(), pruned.remaining, (most, size(most)));
    if remaining > most.0 {
        return Event::Warning(format!(
            "the store takes {}, more than its limit of {}: image names hold {} (see `shipway image rm`, \
             SHIPWAY_CACHE_LIMIT)",
            size(remaining),
            most.1,
            size(pruned.named)
        ));
    }
    let (freed, remaining) = (size(freed), size(remaining));
    Event::Notice(format!(
        "the store was above its limit of {}: removed {freed} of what was not used for the longest time, \
         {remaining} remain",
        most.1
    ))
}

/// The store with the services that need it.
fn inventory(store: &Store) -> Result<Inventory, Failure> {
    let mut inventory = store.inventory()?;
    inventory.owners = owners(store);
    Ok(inventory)
}

const fn question(limits: &Limits) -> &'static str {
    if limits.all {
        "Results of builds that no image name holds will be removed, and cache mounts. Go on? [y/N] "
    } else {
        "Results that no image name holds and no last build needs will be removed. Go on? [y/N] "
    }
}

/// What goes and why, then what that comes to.
fn summary(pruned: &Pruned, freed: &str) -> String {
    let Pruned { removals, remaining, named } = pruned;
    let (lines, bytes) = (removals.text(&size), size(removals.bytes()));
    let (remaining, named) = (size(*remaining), size(*named));
    format!("{lines}{freed}: {bytes}\nRemaining: {remaining}, of which image names hold {named}\n")
}

fn damage_text(found: &Removals, inventory: &Inventory) -> String {
    let mut text = found.text(&size);
    let mut names: Vec<&str> = Vec::new();
    for step in &found.steps {
        if let Removal::Piece(held, ..) = step {
            names.extend(inventory.names_of(*held));
        }
    }
    names.sort_unstable();
    names.dedup();
    let names: Vec<_> = names.into_iter().map(familiar).collect();
    if !names.is_empty() {
        text.push_str(&format!("It belongs to {}\n", names.join(", ")));
    }
    for name in inventory.incomplete_names() {
        let name = familiar(name);
        text.push_str(&format!(
            "image {name}: a piece that it needs is missing; build, import or load it again\n"
        ));
    }
    text
}

fn tell_wait(context: &Context<'_>, users: &[u32]) {
    let text = format!("waiting for {} to end: it uses the store", others(users));
    context.screen.emit(Event::Notice(text));
}

/// What is said when the others did not end.
fn in_use(store: &Store, waited: Duration) -> Failure {
    let lock = store.root().join(".lock");
    Failure::Usage(format!(
        "{} still uses the store after {} s: it holds {}\n\
         help: try again when it has ended, or wait longer with --wait 10m",
        others(&store.users()),
        waited.as_secs(),
        lock.display()
    ))
}

fn others(users: &[u32]) -> String {
    let named: Vec<_> = users.iter().map(u32::to_string).collect();
    match named.len() {
        0 => "another shipway".to_owned(),
        1 => format!("another shipway (process {})", named[0]),
        _ => format!("another shipway (processes {})", named.join(", ")),
    }
}

fn limits(flags: &CachePrune) -> Result<Limits, Failure> {
    let keep_bytes =
        flags.keep_storage.as_deref().map(quantity::bytes).transpose().map_err(Failure::Usage)?;
    let mut limits = Limits { keep_bytes, unused_for: None, all: flags.all };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_from_the_flags() {
        let flags = CachePrune {
            keep_storage: Some("1k".to_owned()),
            filter: vec!["until=1h".to_owned()],
            ..CachePrune::default()
        };
        let limits = limits(&flags).unwrap();
        assert_eq!(
            (limits.keep_bytes, limits.unused_for, limits.all),
            (Some(1024), Some(Duration::from_secs(3600)), false)
        );
        let flags = CachePrune { filter: vec!["label=x".to_owned()], ..CachePrune::default() };
        assert!(super::limits(&flags).unwrap_err().to_string().starts_with("not supported yet: --filter"));
    }

    #[test]
    fn what_was_freed_and_what_remains_is_said() {
        let pruned = Pruned { removals: Removals::default(), remaining: 2000, named: 500 };
        let expected = "Freed: 0B\nRemaining: 2kB, of which image names hold 500B\n";
        assert_eq!(summary(&pruned, "Freed"), expected);
        assert_eq!(
            trimmed(&pruned, 3000),
            Event::Notice(
                "the store was above its limit of 3kB: removed 0B of what was not used for the longest time, \
                 2kB remain"
                    .to_owned()
            )
        );
        let Event::Warning(text) = trimmed(&pruned, 1000) else { panic!("no warning") };
        assert!(text.starts_with("the store takes 2kB, more than its limit of 1kB: image names hold 500B"));
    }

    #[test]
    fn who_is_waited_for_is_named() {
        assert_eq!(others(&[]), "another shipway");
        assert_eq!(others(&[7, 9]), "another shipway (processes 7, 9)");
    }
}
