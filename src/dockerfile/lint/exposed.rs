//! Rules about `EXPOSE`, once its variables are put in.

use crate::base::diag::Diagnostic;

use super::super::ast::{Kind, Word};
use super::super::trace::Step;
use super::Subject;

/// A colon makes an address or a mapping to a port of the host.
pub(super) fn format(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (step, word, port) in ports(subject).filter(|(.., port)| port.contains(':')) {
        let message = format!("`{port}` names an address or a port of the host");
        let finding = Diagnostic::warning(message).at(step.place(&word.span), "");
        found.push(
            finding.help("write `PORT[/PROTOCOL]`: ports of the host are chosen when a container starts"),
        );
    }
}

pub(super) fn protocol_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    for (step, word, port) in ports(subject) {
        let Some((number, protocol)) = port.split_once('/') else { continue };
        let lower = protocol.to_lowercase();
        if lower != protocol {
            let message = format!("the protocol `{protocol}` should be in lower case");
            let finding = Diagnostic::warning(message).at(step.place(&word.span), "");
            found.push(finding.help(format!("write `{number}/{lower}`")));
        }
    }
}

/// Every port as it stands after expansion, with the word that it comes from.
fn ports<'s>(subject: &'s Subject<'_>) -> impl Iterator<Item = (&'s Step<'s>, &'s Word, &'s String)> {
    let words = subject.steps().filter_map(|(_, step)| match &step.instruction.kind {
        Kind::Expose(words) => Some((step, words)),
        _ => None,
    });
    let words = words.flat_map(|(step, words)| words.iter().map(move |word| (step, word)));
    words.flat_map(|(step, word)| step.texts(word).iter().map(move |port| (step, word, port)))
}
