//! Instructions that only change the image's config and add a history line without a layer.
//!
//! Each puts variables into its words, checks the values and stores them as they reach the config.
//! Nothing here adds a node to the graph; what such an instruction does to a RUN, the RUN's own node says.

use super::{Applying, history, ports};
use crate::base::diag::Diagnostic;
use crate::dockerfile::{self as df, CommandLine, Pair, Word};
use crate::oci::Healthcheck;

/// Signals by name (Linux, `signal(7)`), with the names that BuildKit knows besides.
const SIGNALS: [&str; 36] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMAX",
];

impl Applying<'_, '_, '_> {
    /// `BuildKit dispatchArg`: the request's value, else the default, else a global one of that name.
    pub(super) fn arg(&mut self, pairs: &[Pair]) -> Option<()> {
        let source = self.lowering.source(self.id.0);
        let mut shown = Vec::new();
        for (name, default) in pairs {
            let value = match (source.request.arguments.get(&name.text), default) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(word)) => Some(self.expand(word)?),
                (None, None) => self.lowering.globals(self.id.0).get(&name.text).cloned(),
            };
            shown.push(match &value {
                Some(value) => format!("{}={value}", name.text),
                None => name.text.clone(),
            });
            self.state.variables.extend(value.map(|value| (name.text.clone(), value)));
            if !self.state.arguments.contains(&name.text) {
                self.state.arguments.push(name.text.clone());
            }
        }
        self.metadata(format!("ARG {}", shown.join(" ")))
    }

    /// All values of one ENV see the variables as they were before it.
    pub(super) fn env(&mut self, pairs: &[Pair]) -> Option<()> {
        let pairs = self.pairs(pairs)?;
        let line = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        for (name, value) in pairs {
            self.state.set_env(&name, &value);
        }
        self.metadata(format!("ENV {line}"))
    }

    pub(super) fn label(&mut self, pairs: &[Pair]) -> Option<()> {
        let pairs = self.pairs(pairs)?;
        let line = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        self.state.config.labels.extend(pairs);
        self.metadata(format!("LABEL {line}"))
    }

    pub(super) fn cmd(&mut self, command: &CommandLine) -> Option<()> {
        self.state.config.cmd = self.command(command);
        self.state.config.args_escaped = true;
        self.state.command_set = true;
        let line = history::quoted_list(&self.state.config.cmd);
        self.metadata(format!("CMD {line}"))
    }

    pub(super) fn entrypoint(&mut self, command: &CommandLine) -> Option<()> {
        self.state.config.entrypoint = self.command(command);
        if !self.state.command_set {
            self.state.config.cmd.clear();
        }
        let line = history::quoted_list(&self.state.config.entrypoint);
        self.metadata(format!("ENTRYPOINT {line}"))
    }

    /// The words in their order before variables are put in, as BuildKit's parser sorts them.
    pub(super) fn expose(&mut self, ports: &[Word]) -> Option<()> {
        let mut words: Vec<&Word> = ports.iter().collect();
        words.sort_by(|one, other| one.text.cmp(&other.text));
        let mut exposed = Vec::new();
        for word in words {
            for text in self.words(word)? {
                match ports::exposed(&text) {
                    Ok(ports) => exposed.extend(ports),
                    Err(error) => {
                        let message = format!("`{text}` is not a port to expose: {error}");
                        let help = "EXPOSE takes `PORT[-PORT][/tcp|udp|sctp]`";
                        let mistake = Diagnostic::error(message).at(word.span.clone(), "").help(help);
                        self.lowering.mistake(mistake);
                        return None;
                    }
                }
            }
        }
        let line = format!("EXPOSE [{}]", exposed.join(" "));
        self.state.config.exposed_ports.extend(exposed);
        self.metadata(line)
    }

    pub(super) fn volume(&mut self, paths: &[Word]) -> Option<()> {
        let paths = self.list(paths)?;
        self.state.config.volumes.extend(paths.iter().cloned());
        self.metadata(format!("VOLUME [{}]", paths.join(" ")))
    }

    pub(super) fn user(&mut self, word: &Word) -> Option<()> {
        self.state.config.user = self.expand(word)?;
        let line = format!("USER {}", self.state.config.user);
        self.metadata(line)
    }

    pub(super) fn stop_signal(&mut self, word: &Word) -> Option<()> {
        let signal = self.expand(word)?;
        if !is_signal(&signal) {
            let message = format!("`{signal}` is not a signal");
            let mistake = Diagnostic::error(message).at(word.span.clone(), "");
            self.lowering.mistake(mistake.did_you_mean(&signal, SIGNALS.iter().copied()));
            return None;
        }
        self.state.config.stop_signal = signal;
        let line = format!("STOPSIGNAL {}", self.state.config.stop_signal);
        self.metadata(line)
    }

    pub(super) fn shell(&mut self, shell: &[String]) -> Option<()> {
        self.state.config.shell = shell.to_vec();
        self.metadata(format!("SHELL [{}]", shell.join(" ")))
    }

    pub(super) fn healthcheck(&mut self, check: &df::Healthcheck) -> Option<()> {
        let nanoseconds = |duration: &Option<std::time::Duration>| {
            duration.map_or(0, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
        };
        let healthcheck = match check {
            df::Healthcheck::None => Healthcheck { test: vec!["NONE".to_owned()], ..Healthcheck::default() },
            df::Healthcheck::Command {
                command,
                interval,
                timeout,
                start_period,
                start_interval,
                retries,
            } => {
                let test = match command {
                    CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.clone()],
                    CommandLine::Exec(argv) => ["CMD".to_owned()].into_iter().chain(argv.clone()).collect(),
                };
                Healthcheck {
                    test,
                    interval: nanoseconds(interval),
                    timeout: nanoseconds(timeout),
                    start_period: nanoseconds(start_period),
                    start_interval: nanoseconds(start_interval),
                    retries: i64::from(retries.unwrap_or(0)),
                }
            }
        };
        let line = format!("HEALTHCHECK {}", history::healthcheck(&healthcheck));
        self.state.config.healthcheck = Some(healthcheck);
        self.metadata(line)
    }
}

/// A number other than 0, or a name with or without `SIG` in any case; `RTMIN+1` to `RTMIN+15` and
/// `RTMAX-14` to `RTMAX-1` too.
fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let realtime = |prefix: &str, most: u32| {
        let number = name.strip_prefix(prefix).filter(|number| !number.starts_with('0'));
        number.and_then(|number| number.parse().ok()).is_some_and(|number: u32| (1..=most).contains(&number))
    };
    SIGNALS.iter().any(|known| &known[3..] == name) || realtime("RTMIN+", 15) || realtime("RTMAX-", 14)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["9", "SIGTERM", "term", "sigkill", "RTMIN+3", "SIGRTMAX-14", "-1"] {
            assert!(is_signal(text), "{text}");
        }
        for text in ["0", "", "SIG", "SIGNOTHING", "RTMIN+16", "RTMIN+", "RTMAX-01", "9 "] {
            assert!(!is_signal(text), "{text}");
        }
    }
}
