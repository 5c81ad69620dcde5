//! Rules about `EXPOSE`. Words with variables are passed over: their values are not known.

use crate::base::diag::Diagnostic;

use super::super::ast::{Kind, Word};
use super::Subject;

/// A colon makes an address or a mapping to a port of the host.
pub(super) fn format(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    found.extend(ports(subject).filter(|word| word.text.contains(':')).map(|word| {
        let message = format!("`{}` names an address or a port of the host", word.text);
        Diagnostic::warning(message).at(word.span.clone(), "").help("EXPOSE takes `PORT[/PROTOCOL]`")
    }));
}

pub(super) fn protocol_casing(subject: &Subject<'_>, found: &mut Vec<Diagnostic>) {
    found.extend(ports(subject).filter_map(|word| {
        let (_, protocol) = word.text.split_once('/')?;
        let lower = protocol.to_lowercase();
        let message = format!("the protocol `{protocol}` should be written `{lower}`");
        (lower != protocol).then(|| Diagnostic::warning(message).at(word.span.clone(), ""))
    }));
}

fn ports<'a>(subject: &Subject<'a>) -> impl Iterator<Item = &'a Word> {
    let stages = subject.dockerfile.stages.iter();
    let lists =
        stages.flat_map(|stage| &stage.instructions).filter_map(|instruction| match &instruction.kind {
            Kind::Expose(words) => Some(words),
            _ => None,
        });
    lists.flatten().filter(|word| !word.text.contains('$'))
}
