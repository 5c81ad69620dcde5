//! THE attribute table: what each key of a compose file may hold and what becomes of it.
//!
//! One row a key: its [`Shape`], how a later file changes it ([`Merge`]), what makes two list items the same
//! ([`Unique`]), whether it is a path ([`PathRule`]), and whether the rest of the program honours it
//! ([`State`]). [`super::shape`], [`super::merge`] and [`super::check`] walk the same rows; adding a key
//! is adding a row here and a field to the model. To enable a key, take its `.later()` away.
//! Rows follow compose-go's schema and merge rules (2.40.3 observed, 5.5 where the two differ).

use super::forms;
use super::tree::Node;

/// One row.
#[derive(Clone, Copy)]
pub(super) struct Attr {
    /// The key.
    pub key: &'static str,
    /// What it may hold.
    pub shape: Shape,
    /// How a later value changes an earlier one.
    pub merge: Merge,
    /// When two items of its list are the same.
    pub unique: Unique,
    /// Whether it names a place in the host's file system.
    pub path: PathRule,
    /// Whether something comes of it.
    pub state: State,
    /// Whether it may be empty (null).
    pub empty: bool,
}

/// What a key may hold; the form after shaping is given after the arrow.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Anything, untouched.
    Any,
    /// A string → text.
    Text,
    /// A string, number or boolean → text.
    TextLike,
    /// A string or number → text.
    TextOrNumber,
    /// A boolean, or a string that means one → boolean.
    Bool,
    /// A whole number, or a string that means one → number.
    Whole,
    /// A whole number only (no string, so none from a variable) → number.
    WholeOnly,
    /// A number, or a string that means one → number.
    Number,
    /// A number of bytes, or a string with a unit → text.
    Size,
    /// A string with a unit (no number) → text.
    SizeText,
    /// A string with units → text.
    Duration,
    /// One of these strings → text.
    Word(&'static [&'static str]),
    /// A command line → list of text, or null.
    Command,
    /// A list, or one item → list.
    OneOrMany(&'static Shape),
    /// A list → list.
    List(&'static Shape),
    /// A mapping, or a list of `KEY=VALUE` → mapping of text.
    Pairs(Missing),
    /// A mapping with any keys → mapping.
    Map(&'static Shape),
    /// A mapping with the keys of resources (`[a-zA-Z0-9._-]+`), values may be null → mapping.
    Named(&'static Object),
    /// A mapping with known keys, or a short form → mapping.
    Object(&'static Object),
    /// Anything that the function turns into the shape → that.
    Short(forms::Form, &'static Shape),
}

/// What a key without a value in [`Shape::Pairs`] means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It takes its value from the caller's environment, or is null.
    Environment,
    /// It is the empty string.
    Empty,
}

/// A mapping with known keys.
pub(super) struct Object {
    /// What it is called in messages: `service`.
    pub name: &'static str,
    /// Its keys, in alphabetical order.
    pub attrs: &'static [Attr],
    /// Keys that it must have once everything is merged.
    pub required: &'static [&'static str],
    /// Whether it may be empty (null), which then means "with the defaults".
    pub empty: bool,
    /// Works on the shaped mapping as a whole.
    pub finish: Option<forms::Finish>,
}

/// How a later value changes an earlier one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Merge {
    /// Mappings key by key, lists one after the other, anything else replaces.
    Natural,
    /// The later one replaces; an empty one too.
    Replace,
    /// As natural, if the driver is the same or absent; else replaces.
    SameDriver,
    /// Items with the same subnet merge.
    BySubnet,
    /// Lists one after the other, without repeating an item.
    Union,
}

/// When two items of a list are the same; then the later one takes the earlier one's place.
#[derive(Clone, Copy)]
pub(super) enum Unique {
    /// Never.
    Keep,
    /// When equal, and then it is a mistake.
    Refuse,
    /// When this function gives the same text.
    By(fn(&Node) -> Option<String>),
}

/// Whether a value names a place in the host's file system.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PathRule {
    /// No.
    No,
    /// A path; relative to the file's folder, `~` is the caller's home.
    Path,
    /// A build context: a path unless it is remote.
    Context,
    /// Build contexts as values of a mapping.
    Contexts,
}

/// Whether something comes of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// Built with or launched with.
    Honoured,
    /// Used in reading the files.
    Read,
    /// Checked and printed; no command that builds or launches has a use for it.
    Checked,
    /// Checked and printed, but refused by every command that would have to honour it.
    Later,
    /// Has no effect: on a single engine, as with Docker Compose, or on a build that asks no remote cache;
    /// said in a warning.
    Elsewhere,
}

const fn attr(key: &'static str, shape: Shape) -> Attr {
    Attr {
        key,
        shape,
        merge: Merge::Natural,
        unique: Unique::Keep,
        path: PathRule::No,
        state: State::Honoured,
        empty: false,
    }
}

impl Attr {
    const fn merge(mut self, merge: Merge) -> Self {
        self.merge = merge;
        self
    }

    const fn unique(mut self, unique: Unique) -> Self {
        self.unique = unique;
        self
    }

    const fn path(mut self, path: PathRule) -> Self {
        self.path = path;
        self
    }

    const fn read(mut self) -> Self {
        self.state = State::Read;
        self
    }

    const fn checked(mut self) -> Self {
        self.state = State::Checked;
        self
    }

    const fn later(mut self) -> Self {
        self.state = State::Later;
        self
    }

    const fn elsewhere(mut self) -> Self {
        self.state = State::Elsewhere;
        self
    }

    const fn empty(mut self) -> Self {
        self.empty = true;
        self
    }
}

const fn object(name: &'static str, attrs: &'static [Attr], required: &'static [&'static str]) -> Object {
    Object { name, attrs, required, empty: false, finish: None }
}

const TEXTS: Shape = Shape::List(&Shape::Text);
const TEXT_LIKES: Shape = Shape::List(&Shape::TextOrNumber);
const TEXT_OR_TEXTS: Shape = Shape::OneOrMany(&Shape::Text);
const LABELS: Shape = Shape::Pairs(Missing::Empty);
const VALUE: Unique = Unique::By(forms::before_equals);
const OPTIONS: Shape = Shape::Map(&Shape::TextOrNumber);

/// The file as a whole.
pub(super) static TOP: Object = object(
    "compose file",
    &[
        attr("configs", Shape::Named(&CONFIG)),
        attr("include", Shape::Any).read(),
        attr("models", Shape::Named(&MODEL)).later(),
        attr("name", Shape::Text).read(),
        attr("networks", Shape::Named(&NETWORK)),
        attr("secrets", Shape::Named(&SECRET)),
        attr("services", Shape::Named(&SERVICE)),
        attr("version", Shape::TextLike).elsewhere(),
        attr("volumes", Shape::Named(&VOLUME)),
    ],
    &[],
);

/// `services.NAME`.
pub(super) static SERVICE: Object = object(
    "service",
    &[
        attr("annotations", LABELS),
        attr("attach", Shape::Bool),
        attr("blkio_config", Shape::Object(&BLKIO)),
        attr("build", Shape::Short(forms::build, &Shape::Object(&BUILD))),
        attr("cap_add", TEXTS).unique(VALUE),
        attr("cap_drop", TEXTS).unique(VALUE),
        attr("cgroup", Shape::Word(&["host", "private"])),
        attr("cgroup_parent", Shape::Text),
        attr("command", Shape::Command).merge(Merge::Replace).empty(),
        attr("configs", Shape::List(&Shape::Short(forms::file_use, &Shape::Object(&FILE_USE))))
            .unique(Unique::By(forms::config_target)),
        attr("container_name", Shape::Text),
        attr("cpu_count", Shape::Whole).elsewhere(),
        attr("cpu_percent", Shape::Whole).elsewhere(),
        attr("cpu_period", Shape::Whole),
        attr("cpu_quota", Shape::Whole),
        attr("cpu_rt_period", Shape::Whole),
        attr("cpu_rt_runtime", Shape::Whole),
        attr("cpu_shares", Shape::Whole),
        attr("cpus", Shape::Number),
        attr("cpuset", Shape::Text),
        attr("credential_spec", Shape::Object(&CREDENTIAL)).elsewhere(),
        attr("depends_on", Shape::Short(forms::depends_on, &Shape::Map(&Shape::Object(&DEPENDENCY)))),
        attr("deploy", Shape::Object(&DEPLOY)).empty(),
        attr("develop", Shape::Object(&DEVELOP)).empty().checked(),
        attr("device_cgroup_rules", TEXTS).unique(Unique::Refuse),
        attr("devices", Shape::List(&Shape::Short(forms::device, &Shape::Object(&DEVICE))))
            .unique(Unique::By(forms::target)),
        attr("dns", TEXT_OR_TEXTS).unique(VALUE),
        attr("dns_opt", TEXTS).unique(VALUE),
        attr("dns_search", TEXT_OR_TEXTS).unique(VALUE),
        attr("domainname", Shape::Text),
        attr("entrypoint", Shape::Command).merge(Merge::Replace).empty(),
        attr("env_file", Shape::OneOrMany(&Shape::Short(forms::env_file, &Shape::Object(&ENV_FILE))))
            .unique(Unique::By(forms::path))
            .read(),
        attr("environment", Shape::Pairs(Missing::Environment)),
        attr("expose", TEXT_LIKES).unique(VALUE),
        attr("extends", Shape::Short(forms::extends, &Shape::Object(&EXTENDS))).read(),
        attr("external_links", TEXTS).unique(Unique::Refuse),
        attr("extra_hosts", Shape::Short(forms::extra_hosts, &TEXTS)).merge(Merge::Union),
        attr("gpus", Shape::Short(forms::gpus, &Shape::List(&Shape::Object(&DEVICE_REQUEST)))),
        attr("group_add", TEXT_LIKES).unique(Unique::Refuse),
        attr("healthcheck", Shape::Object(&HEALTHCHECK)),
        attr("hostname", Shape::Text),
        attr("image", Shape::Text),
        attr("init", Shape::Bool),
        attr("ipc", Shape::Text),
        attr("isolation", Shape::Text).elsewhere(),
        attr("label_file", TEXT_OR_TEXTS).path(PathRule::Path).read(),
        attr("labels", LABELS),
        attr("links", TEXTS).unique(VALUE),
        attr("logging", Shape::Object(&LOGGING)).merge(Merge::SameDriver),
        attr("mac_address", Shape::Text),
        attr("mem_limit", Shape::Size),
        attr("mem_reservation", Shape::Size),
        attr("mem_swappiness", Shape::Size),
        attr("memswap_limit", Shape::Size),
        attr("models", Shape::Short(forms::names, &Shape::Named(&MODEL_USE))).later(),
        attr("network_mode", Shape::Text),
        attr("networks", Shape::Short(forms::names, &Shape::Named(&NETWORK_USE))),
        attr("oom_kill_disable", Shape::Bool),
        attr("oom_score_adj", Shape::Whole),
        attr("pid", Shape::Text).empty(),
        attr("pids_limit", Shape::Whole),
        attr("platform", Shape::Text),
        attr("ports", Shape::List(&Shape::Short(forms::ports, &Shape::Object(&PORT))))
            .unique(Unique::By(forms::port_identity)),
        attr("post_start", Shape::List(&Shape::Object(&HOOK))),
        attr("pre_start", Shape::List(&Shape::Object(&HOOK))),
        attr("pre_stop", Shape::List(&Shape::Object(&HOOK))),
        attr("privileged", Shape::Bool),
        attr("profiles", TEXTS).unique(VALUE).read(),
        attr("provider", Shape::Object(&PROVIDER)).later(),
        attr("pull_policy", Shape::Text),
        attr("pull_refresh_after", Shape::Text).elsewhere(),
        attr("read_only", Shape::Bool),
        attr("restart", Shape::Text),
        attr("runtime", Shape::Text),
        attr("scale", Shape::Whole),
        attr("secrets", Shape::List(&Shape::Short(forms::file_use, &Shape::Object(&FILE_USE))))
            .unique(Unique::By(forms::secret_target)),
        attr("security_opt", TEXTS).unique(Unique::Refuse),
        attr("shm_size", Shape::Size),
        attr("stdin_open", Shape::Bool),
        attr("stop_grace_period", Shape::Duration),
        attr("stop_signal", Shape::Text),
        attr("storage_opt", OPTIONS),
        attr("sysctls", LABELS),
        attr("tmpfs", TEXT_OR_TEXTS).unique(VALUE),
        attr("tty", Shape::Bool),
        attr("ulimits", Shape::Map(&Shape::Short(forms::ulimit, &Shape::Object(&ULIMIT)))),
        attr("use_api_socket", Shape::Bool),
        attr("user", Shape::Text),
        attr("userns_mode", Shape::Text),
        attr("uts", Shape::Text),
        attr("volumes", Shape::List(&Shape::Short(forms::mount, &Shape::Object(&MOUNT))))
            .unique(Unique::By(forms::target)),
        attr("volumes_from", TEXTS).unique(Unique::Refuse),
        attr("working_dir", Shape::Text),
    ],
    &[],
);

/// `services.NAME.build`.
pub(super) static BUILD: Object = object(
    "build",
    &[
        attr("additional_contexts", LABELS).path(PathRule::Contexts),
        attr("args", Shape::Pairs(Missing::Environment)),
        attr("cache_from", TEXTS),
        attr("cache_to", TEXTS),
        attr("context", Shape::Text).path(PathRule::Context),
        attr("dockerfile", Shape::Text),
        attr("dockerfile_inline", Shape::Text),
        attr("entitlements", TEXTS),
        attr("extra_hosts", Shape::Short(forms::extra_hosts, &TEXTS)).merge(Merge::Union),
        attr("isolation", Shape::Text).elsewhere(),
        attr("labels", LABELS),
        attr("network", Shape::Text),
        attr("no_cache", Shape::Bool),
        attr("no_cache_filter", TEXT_OR_TEXTS),
        attr("platforms", TEXTS),
        attr("privileged", Shape::Bool),
        attr("provenance", Shape::TextLike),
        attr("pull", Shape::Bool),
        attr("sbom", Shape::TextLike),
        attr("secrets", Shape::List(&Shape::Short(forms::file_use, &Shape::Object(&BUILD_SECRET)))),
        attr("shm_size", Shape::Size),
        attr("ssh", Shape::Short(forms::ssh, &TEXTS)).unique(Unique::Refuse),
        attr("tags", TEXTS).unique(VALUE),
        attr("target", Shape::Text),
        attr("ulimits", Shape::Map(&Shape::Short(forms::ulimit, &Shape::Object(&ULIMIT)))),
    ],
    &[],
);

static BLKIO: Object = object(
    "blkio_config",
    &[
        attr("device_read_bps", Shape::List(&Shape::Object(&THROTTLE))),
        attr("device_read_iops", Shape::List(&Shape::Object(&THROTTLE))),
        attr("device_write_bps", Shape::List(&Shape::Object(&THROTTLE))),
        attr("device_write_iops", Shape::List(&Shape::Object(&THROTTLE))),
        attr("weight", Shape::WholeOnly),
        attr("weight_device", Shape::List(&Shape::Object(&WEIGHT))),
    ],
    &[],
);

static THROTTLE: Object =
    object("blkio limit", &[attr("path", Shape::Text), attr("rate", Shape::Size)], &["path", "rate"]);

static WEIGHT: Object =
    object("blkio weight", &[attr("path", Shape::Text), attr("weight", Shape::Whole)], &["path"]);

/// An entry of `configs` or `secrets` of a service.
static FILE_USE: Object = object(
    "config or secret",
    &[
        attr("gid", Shape::Text),
        attr("mode", Shape::Short(forms::mode, &Shape::Text)),
        attr("source", Shape::Text),
        attr("target", Shape::Text),
        attr("uid", Shape::Text),
    ],
    &["source"],
);

/// An entry of `build.secrets`; owner and mode are the Dockerfile's matter.
static BUILD_SECRET: Object = object(
    "build secret",
    &[
        attr("gid", Shape::Text).elsewhere(),
        attr("mode", Shape::Short(forms::mode, &Shape::Text)).elsewhere(),
        attr("source", Shape::Text),
        attr("target", Shape::Text),
        attr("uid", Shape::Text).elsewhere(),
    ],
    &["source"],
);

static CREDENTIAL: Object = object(
    "credential_spec",
    &[attr("config", Shape::Text), attr("file", Shape::Text), attr("registry", Shape::Text)],
    &[],
);

static DEPENDENCY: Object = object(
    "depends_on",
    &[
        attr(
            "condition",
            Shape::Word(&["service_started", "service_healthy", "service_completed_successfully"]),
        ),
        attr("required", Shape::Bool),
        attr("restart", Shape::Bool),
    ],
    &["condition"],
);

static DEPLOY: Object = object(
    "deploy",
    &[
        attr("endpoint_mode", Shape::Text).elsewhere(),
        attr("labels", LABELS).elsewhere(),
        attr("mode", Shape::Text).elsewhere(),
        attr("placement", Shape::Object(&PLACEMENT)).elsewhere(),
        attr("replicas", Shape::Whole),
        attr("resources", Shape::Object(&RESOURCES)),
        attr("restart_policy", Shape::Object(&RESTART_POLICY)),
        attr("rollback_config", Shape::Object(&ROLLING)).elsewhere(),
        attr("update_config", Shape::Object(&ROLLING)).elsewhere(),
    ],
    &[],
);

static PLACEMENT: Object = object(
    "placement",
    &[
        attr("constraints", TEXTS),
        attr("max_replicas_per_node", Shape::Whole),
        attr("preferences", Shape::List(&Shape::Object(&PREFERENCE))),
    ],
    &[],
);

static PREFERENCE: Object = object("placement preference", &[attr("spread", Shape::Text)], &[]);

static RESOURCES: Object = object(
    "resources",
    &[attr("limits", Shape::Object(&LIMITS)), attr("reservations", Shape::Object(&RESERVATIONS))],
    &[],
);

static LIMITS: Object = object(
    "limits",
    &[attr("cpus", Shape::Number), attr("memory", Shape::SizeText), attr("pids", Shape::Whole)],
    &[],
);

static RESERVATIONS: Object = object(
    "reservations",
    &[
        attr("cpus", Shape::Number).elsewhere(),
        attr("devices", Shape::List(&Shape::Object(&DEVICE_REQUEST))),
        attr("generic_resources", Shape::List(&Shape::Any)).elsewhere(),
        attr("memory", Shape::SizeText),
    ],
    &[],
);

static DEVICE_REQUEST: Object = object(
    "device request",
    &[
        attr("capabilities", TEXTS),
        attr("count", Shape::Short(forms::device_count, &Shape::Whole)),
        attr("device_ids", TEXTS),
        attr("driver", Shape::Text),
        attr("options", LABELS),
    ],
    &[],
);

static RESTART_POLICY: Object = object(
    "restart_policy",
    &[
        attr("condition", Shape::Text),
        attr("delay", Shape::Duration).elsewhere(),
        attr("max_attempts", Shape::Whole),
        attr("window", Shape::Duration).elsewhere(),
    ],
    &[],
);

static ROLLING: Object = object(
    "update_config",
    &[
        attr("delay", Shape::Duration),
        attr("failure_action", Shape::Text),
        attr("max_failure_ratio", Shape::Number),
        attr("monitor", Shape::Duration),
        attr("order", Shape::Word(&["start-first", "stop-first"])),
        attr("parallelism", Shape::Whole),
    ],
    &[],
);

static DEVELOP: Object = object("develop", &[attr("watch", Shape::List(&Shape::Object(&WATCH)))], &[]);

static WATCH: Object = Object {
    name: "watch",
    attrs: &[
        attr("action", Shape::Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
        attr("exec", Shape::Object(&HOOK)),
        attr("ignore", TEXT_OR_TEXTS),
        attr("include", TEXT_OR_TEXTS),
        attr("initial_sync", Shape::Bool),
        attr("path", Shape::Text).path(PathRule::Path),
        attr("target", Shape::Text),
    ],
    required: &["path", "action"],
    empty: false,
    finish: Some(forms::finish_watch),
};

static DEVICE: Object = object(
    "device",
    &[attr("permissions", Shape::Text), attr("source", Shape::Text), attr("target", Shape::Text)],
    &["source"],
);

static ENV_FILE: Object = object(
    "env_file",
    &[
        attr("format", Shape::Text),
        attr("path", Shape::Text).path(PathRule::Path),
        attr("required", Shape::Bool),
    ],
    &["path"],
);

static EXTENDS: Object =
    object("extends", &[attr("file", Shape::Text), attr("service", Shape::Text)], &["service"]);

static HEALTHCHECK: Object = object(
    "healthcheck",
    &[
        attr("disable", Shape::Bool),
        attr("interval", Shape::Duration),
        attr("retries", Shape::Whole),
        attr("start_interval", Shape::Duration),
        attr("start_period", Shape::Duration),
        attr("test", Shape::Short(forms::healthcheck_test, &TEXTS)).merge(Merge::Replace),
        attr("timeout", Shape::Duration),
    ],
    &[],
);

static LOGGING: Object = object(
    "logging",
    &[attr("driver", Shape::Text), attr("options", Shape::Short(forms::mapping, &LABELS))],
    &[],
);

static NETWORK_USE: Object = Object {
    name: "network",
    attrs: &[
        attr("aliases", TEXTS).unique(VALUE),
        attr("driver_opts", OPTIONS),
        attr("gw_priority", Shape::WholeOnly),
        attr("interface_name", Shape::Text),
        attr("ipv4_address", Shape::Text),
        attr("ipv6_address", Shape::Text),
        attr("link_local_ips", TEXTS).unique(VALUE),
        attr("mac_address", Shape::Text),
        attr("priority", Shape::WholeOnly),
    ],
    required: &[],
    empty: true,
    finish: None,
};

static MODEL_USE: Object = Object {
    name: "model",
    attrs: &[attr("endpoint_var", Shape::Text), attr("model_var", Shape::Text)],
    required: &[],
    empty: true,
    finish: None,
};

/// One published port.
pub(super) static PORT: Object = Object {
    name: "port",
    attrs: &[
        attr("app_protocol", Shape::Text).elsewhere(),
        attr("host_ip", Shape::Text),
        attr("mode", Shape::Text).checked(),
        attr("name", Shape::Text).elsewhere(),
        attr("protocol", Shape::Text),
        attr("published", Shape::TextOrNumber),
        attr("target", Shape::Whole),
    ],
    required: &["target"],
    empty: false,
    finish: Some(forms::finish_port),
};

static HOOK: Object = object(
    "hook",
    &[
        attr("command", Shape::Command).merge(Merge::Replace).empty(),
        attr("environment", Shape::Pairs(Missing::Environment)),
        attr("image", Shape::Text),
        attr("per_replica", Shape::Bool),
        attr("privileged", Shape::Bool),
        attr("user", Shape::Text),
        attr("working_dir", Shape::Text),
    ],
    &["command"],
);

static PROVIDER: Object = object(
    "provider",
    &[attr("options", Shape::Map(&Shape::OneOrMany(&Shape::TextLike))), attr("type", Shape::Text)],
    &["type"],
);

static ULIMIT: Object =
    object("ulimit", &[attr("hard", Shape::Whole), attr("soft", Shape::Whole)], &["soft", "hard"]);

/// One mount.
pub(super) static MOUNT: Object = Object {
    name: "volume",
    attrs: &[
        attr("bind", Shape::Object(&BIND)),
        attr("consistency", Shape::Text),
        attr("image", Shape::Object(&SUBPATH)),
        attr("read_only", Shape::Bool),
        attr("source", Shape::Text),
        attr("target", Shape::Text),
        attr("tmpfs", Shape::Object(&TMPFS)),
        attr("type", Shape::Word(&["bind", "volume", "tmpfs", "cluster", "npipe", "image"])),
        attr("volume", Shape::Object(&VOLUME_USE)),
    ],
    required: &["type"],
    empty: false,
    finish: Some(forms::finish_mount),
};

static BIND: Object = object(
    "bind",
    &[
        attr("create_host_path", Shape::Bool),
        attr("propagation", Shape::Text),
        attr("recursive", Shape::Word(&["enabled", "disabled", "writable", "readonly"])),
        attr("selinux", Shape::Word(&["z", "Z"])),
    ],
    &[],
);

static VOLUME_USE: Object = object(
    "volume",
    &[attr("labels", LABELS), attr("nocopy", Shape::Bool), attr("subpath", Shape::Text)],
    &[],
);

static TMPFS: Object = object("tmpfs", &[attr("mode", Shape::WholeOnly), attr("size", Shape::Size)], &[]);

static SUBPATH: Object = object("image", &[attr("subpath", Shape::Text)], &[]);

/// `networks.KEY`.
pub(super) static NETWORK: Object = Object {
    name: "network",
    attrs: &[
        attr("attachable", Shape::Bool),
        attr("driver", Shape::Text),
        attr("driver_opts", OPTIONS),
        attr("enable_ipv4", Shape::Bool),
        attr("enable_ipv6", Shape::Bool),
        attr("external", Shape::Short(forms::external, &Shape::Any)),
        attr("internal", Shape::Bool),
        attr("ipam", Shape::Object(&IPAM)),
        attr("labels", LABELS),
        attr("name", Shape::Text),
    ],
    required: &[],
    empty: true,
    finish: Some(forms::finish_external),
};

static IPAM: Object = object(
    "ipam",
    &[
        attr("config", Shape::List(&Shape::Object(&POOL))).merge(Merge::BySubnet),
        attr("driver", Shape::Text),
        attr("options", OPTIONS),
    ],
    &[],
);

static POOL: Object = object(
    "ipam pool",
    &[
        attr("aux_addresses", OPTIONS),
        attr("gateway", Shape::Text),
        attr("ip_range", Shape::Text),
        attr("subnet", Shape::Text),
    ],
    &[],
);

/// `volumes.KEY`.
pub(super) static VOLUME: Object = Object {
    name: "volume",
    attrs: &[
        attr("driver", Shape::Text),
        attr("driver_opts", OPTIONS),
        attr("external", Shape::Short(forms::external, &Shape::Any)),
        attr("labels", LABELS),
        attr("name", Shape::Text),
    ],
    required: &[],
    empty: true,
    finish: Some(forms::finish_external),
};

/// `configs.KEY`.
pub(super) static CONFIG: Object = Object {
    name: "config",
    attrs: &[
        attr("content", Shape::Text),
        attr("environment", Shape::Text),
        attr("external", Shape::Short(forms::external, &Shape::Any)),
        attr("file", Shape::Text).path(PathRule::Path),
        attr("labels", LABELS).elsewhere(),
        attr("name", Shape::Text),
        attr("template_driver", Shape::Text).elsewhere(),
    ],
    required: &[],
    empty: false,
    finish: Some(forms::finish_external),
};

/// `secrets.KEY`.
pub(super) static SECRET: Object = Object {
    name: "secret",
    attrs: &[
        attr("driver", Shape::Text).elsewhere(),
        attr("driver_opts", OPTIONS).elsewhere(),
        attr("environment", Shape::Text),
        attr("external", Shape::Short(forms::external, &Shape::Any)),
        attr("file", Shape::Text).path(PathRule::Path),
        attr("labels", LABELS).elsewhere(),
        attr("name", Shape::Text),
        attr("template_driver", Shape::Text).elsewhere(),
    ],
    required: &[],
    empty: false,
    finish: Some(forms::finish_external),
};

/// `models.KEY`.
pub(super) static MODEL: Object = object(
    "model",
    &[
        attr("context_size", Shape::Whole),
        attr("model", Shape::Text),
        attr("name", Shape::Text),
        attr("runtime_flags", TEXTS),
    ],
    &["model"],
);

/// One entry of `include`, in the long form.
pub(super) static INCLUDE: Object = object(
    "include",
    &[
        attr("env_file", TEXT_OR_TEXTS).path(PathRule::Path),
        attr("path", TEXT_OR_TEXTS).path(PathRule::Path),
        attr("project_directory", Shape::Text).path(PathRule::Path),
    ],
    &["path"],
);

impl Object {
    /// The row of a key.
    pub(super) fn attr(&self, key: &str) -> Option<&'static Attr> {
        self.attrs.binary_search_by(|attr| attr.key.cmp(key)).ok().map(|at| &self.attrs[at])
    }
}
