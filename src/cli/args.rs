//! The command line, as types. Names, short forms and defaults are compose's, and `docker build`'s for
//! `image build`; what goes beyond them says so in its help.
//!
//! Nothing is decided here: [`settings`](super::settings) adds the environment. Flags and commands of
//! compose that are missing stand in [`refused`](super::refused), so that they are refused by name.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Builds the images of a compose project and launches its containers.
#[derive(Debug, Parser)]
#[command(name = "shipway", version, max_term_width = 100, disable_help_subcommand = true)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

/// What holds for every command. These stand before the command's name, as with compose.
#[derive(Debug, Args, Default)]
pub(super) struct Global {
    /// Compose files, the later over the earlier (`-` reads standard input)
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Project name
    #[arg(short, long, value_name = "NAME")]
    pub(super) project_name: Option<String>,
    /// Profile to enable
    #[arg(long = "profile", value_name = "NAME")]
    pub(super) profiles: Vec<String>,
    /// Environment file to use instead of .env
    #[arg(long = "env-file", value_name = "FILE")]
    pub(super) env_files: Vec<PathBuf>,
    /// Folder that relative paths start from (default: that of the first compose file)
    #[arg(long, value_name = "DIR")]
    pub(super) project_directory: Option<PathBuf>,
    /// How many steps run at once, -1 for no limit (default: one a core)
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(super) parallel: Option<i64>,
    /// How progress is shown
    #[arg(long, value_enum, value_name = "KIND", global = true)]
    pub(super) progress: Option<Progress>,
    /// Whether control sequences are printed
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(super) ansi: Option<Ansi>,
    /// Show what would be done and do nothing
    #[arg(long, global = true)]
    pub(super) dry_run: bool,
    /// Ask no registry and no address on the network (shipway's own)
    #[arg(long, global = true)]
    pub(super) offline: bool,
    /// The container engine that gets the images (shipway's own)
    #[arg(long, value_enum, value_name = "ENGINE", global = true)]
    pub(super) engine: Option<EngineChoice>,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Progress {
    /// `tty` on a terminal, else lines without the output of steps that succeed
    #[default]
    Auto,
    /// A live view
    Tty,
    /// Lines, with the output of every step
    Plain,
    /// One JSON object a line
    Json,
    /// Errors only
    Quiet,
}

/// Whether control sequences are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Ansi {
    /// On a terminal
    #[default]
    Auto,
    /// Never
    Never,
    /// Always
    Always,
}

/// Which engine gets the images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum EngineChoice {
    /// The one that answers
    #[default]
    Auto,
    /// Docker
    Docker,
    /// None: images stay in the store
    None,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Build or rebuild services
    Build(Build),
    /// Build what changed, create and start containers
    Up(Up),
    /// Stop and remove containers, networks
    Down(Down),
    /// Stop services
    Stop(Stop),
    /// Start services that were stopped
    Start(Start),
    /// Restart containers
    Restart(Stop),
    /// Send a signal to containers
    Kill(Kill),
    /// List containers
    Ps(Ps),
    /// View output from containers
    Logs(Logs),
    /// Push the images of services to their registries
    Push(Push),
    /// Parse, resolve and render the compose file
    Config(Config),
    /// Show the build graph: each step with its key, hit or miss, and the reason (shipway's own)
    Plan(Plan),
    /// Say why the steps of the last build ran, or would run (shipway's own)
    Why(Why),
    /// Build, import and list images without a compose file
    #[command(subcommand)]
    Image(Image),
    /// The store of results
    #[command(subcommand)]
    Cache(Cache),
    /// Print a script that lets a shell complete commands and flags
    Completion(Completion),
    /// Show the version and what this machine offers
    Version(Version),
}

/// `build`.
#[derive(Debug, Args, Default)]
pub(super) struct Build {
    /// Write a timeline that chrome://tracing and Perfetto open (shipway's own)
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Set build-time variables for services
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(super) build_args: Vec<String>,
    /// Do not use results of earlier builds
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Ask the registry again for every base image
    #[arg(long)]
    pub(super) pull: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Pass an ssh agent to the steps that ask for one: `default` or ID=SOCKET
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub(super) ssh: Vec<String>,
    /// Also build dependencies
    #[arg(long)]
    pub(super) with_dependencies: bool,
    /// Push the images that have a name to their registries
    #[arg(long)]
    pub(super) push: bool,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) provenance: Option<String>,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) sbom: Option<String>,
    /// Check the Dockerfiles and build nothing; fails if there is anything to say
    #[arg(long)]
    pub(super) check: bool,
    /// Services to build (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// `up`.
#[derive(Debug, Args, Default)]
pub(super) struct Up {
    /// Write a timeline that chrome://tracing and Perfetto open (shipway's own)
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// Run containers in the background
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Build images whatever the engine has under their names
    #[arg(long, conflicts_with = "no_build")]
    pub(super) build: bool,
    /// Do not build, even where an image is missing
    #[arg(long)]
    pub(super) no_build: bool,
    /// Create the containers but do not start them
    #[arg(long)]
    pub(super) no_start: bool,
    /// Recreate containers even if nothing changed
    #[arg(long, conflicts_with = "no_recreate")]
    pub(super) force_recreate: bool,
    /// Leave containers that exist as they are
    #[arg(long)]
    pub(super) no_recreate: bool,
    /// Recreate dependent containers too
    #[arg(long, conflicts_with = "no_recreate")]
    pub(super) always_recreate_deps: bool,
    /// Do not start linked services
    #[arg(long)]
    pub(super) no_deps: bool,
    /// Pull images before running
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(super) pull: Option<Pull>,
    /// Print nothing while building
    #[arg(long)]
    pub(super) quiet_build: bool,
    /// How many containers a service has: `web=3`
    #[arg(long, value_name = "SERVICE=N")]
    pub(super) scale: Vec<String>,
    /// Wait until everything runs or is healthy; implies --detach
    #[arg(long, conflicts_with_all = ["abort_on_container_exit", "abort_on_container_failure", "exit_code_from"])]
    pub(super) wait: bool,
    /// Stop everything when a container ends
    #[arg(long, conflicts_with = "detach")]
    pub(super) abort_on_container_exit: bool,
    /// Stop everything when a container ends with another code than 0
    #[arg(long, conflicts_with_all = ["detach", "abort_on_container_exit"])]
    pub(super) abort_on_container_failure: bool,
    /// Return the exit code of this service's container; implies --abort-on-container-exit
    #[arg(long, value_name = "SERVICE", conflicts_with = "detach")]
    pub(super) exit_code_from: Option<String>,
    /// Remove containers of services that are not in the compose file
    #[arg(long)]
    pub(super) remove_orphans: bool,
    /// Recreate anonymous volumes instead of keeping their data
    #[arg(short = 'V', long, conflicts_with = "no_recreate")]
    pub(super) renew_anon_volumes: bool,
    /// Seconds that a container may take to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) timeout: Option<i64>,
    /// Do not colour the names in front of log lines
    #[arg(long)]
    pub(super) no_color: bool,
    /// Print log lines without a name in front
    #[arg(long)]
    pub(super) no_log_prefix: bool,
    /// Show the time of each log line
    #[arg(long)]
    pub(super) timestamps: bool,
    /// Answer yes to every question
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Keep the image that a new one takes the place of (shipway's own)
    #[arg(long)]
    pub(super) keep_old: bool,
    /// Services to start (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// When images are pulled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Pull {
    /// Always
    Always,
    /// If the engine has none of that name
    Missing,
    /// Never
    Never,
}

/// `down`.
#[derive(Debug, Args, Default)]
pub(super) struct Down {
    /// Remove images too: `local` those without a name of their own, or `all`
    #[arg(long, value_enum, value_name = "WHICH")]
    pub(super) rmi: Option<RemoveImages>,
    /// Remove named volumes of the compose file and anonymous volumes
    #[arg(short, long)]
    pub(super) volumes: bool,
    /// Remove containers of services that are not in the compose file
    #[arg(long)]
    pub(super) remove_orphans: bool,
    /// Seconds that a container may take to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) timeout: Option<i64>,
    /// Services to remove (default: the whole project)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// Which images `down` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RemoveImages {
    /// Images that have only the name that was made for them
    Local,
    /// Every image of a service
    All,
}

/// `stop`, `restart`.
#[derive(Debug, Args, Default)]
pub(super) struct Stop {
    /// Seconds that a container may take to stop
    #[arg(short, long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) timeout: Option<i64>,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// `start`.
#[derive(Debug, Args, Default)]
pub(super) struct Start {
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// `kill`.
#[derive(Debug, Args, Default)]
pub(super) struct Kill {
    /// The signal
    #[arg(short, long, value_name = "SIGNAL", default_value = "SIGKILL")]
    pub(super) signal: String,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// `ps`.
#[derive(Debug, Args, Default)]
pub(super) struct Ps {
    /// Show stopped containers too
    #[arg(short, long)]
    pub(super) all: bool,
    /// Print as a table or as JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(super) format: TableFormat,
    /// Print only the containers' ids
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Print only the services' names
    #[arg(long = "services")]
    pub(super) only_services: bool,
    /// Show only containers in this state
    #[arg(long, value_name = "STATE")]
    pub(super) status: Vec<String>,
    /// Show containers of services that are not in the compose file
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub(super) orphans: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub(super) no_trunc: bool,
    /// Services to list (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// Forms of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum TableFormat {
    /// Columns
    #[default]
    Table,
    /// JSON
    Json,
}

/// `logs`.
#[derive(Debug, Args, Default)]
pub(super) struct Logs {
    /// Go on until the containers end
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Show lines since a time (2026-01-02T13:23:37Z) or a duration before now (42m)
    #[arg(long, value_name = "TIME")]
    pub(super) since: Option<String>,
    /// Show lines before a time or a duration before now
    #[arg(long, value_name = "TIME")]
    pub(super) until: Option<String>,
    /// Lines to show from the end of each container's log
    #[arg(short = 'n', long, value_name = "N", default_value = "all")]
    pub(super) tail: String,
    /// Show the time of each line
    #[arg(short, long)]
    pub(super) timestamps: bool,
    /// Do not colour the names
    #[arg(long)]
    pub(super) no_color: bool,
    /// Print lines without a name in front
    #[arg(long)]
    pub(super) no_log_prefix: bool,
    /// Number of the container, where a service has several
    #[arg(long, value_name = "N")]
    pub(super) index: Option<u32>,
    /// Services to show (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// `config`.
#[derive(Debug, Args, Default)]
pub(super) struct Config {
    /// Form of the output (default: yaml; a table for --variables)
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) format: Option<ConfigFormat>,
    /// Print Docker Compose's digest of these services (`a,b`, or `*` for all)
    #[arg(long, value_name = "SERVICES")]
    pub(super) hash: Option<String>,
    /// Print the variables of the files with their defaults
    #[arg(long)]
    pub(super) variables: bool,
    /// Print the services' names only
    #[arg(long)]
    pub(super) services: bool,
    /// Print the images' names only
    #[arg(long)]
    pub(super) images: bool,
    /// Print the volumes' names only
    #[arg(long)]
    pub(super) volumes: bool,
    /// Print the networks' names only
    #[arg(long)]
    pub(super) networks: bool,
    /// Print the profiles' names only
    #[arg(long)]
    pub(super) profiles: bool,
    /// Print the models only
    #[arg(long)]
    pub(super) models: bool,
    /// Print the variables that the files may refer to
    #[arg(long)]
    pub(super) environment: bool,
    /// Put the digests that registries have for the images' names now into the names
    #[arg(long)]
    pub(super) resolve_image_digests: bool,
    /// Print an override file with nothing but the images' digests
    #[arg(long)]
    pub(super) lock_image_digests: bool,
    /// Leave the variables as they are written
    #[arg(long)]
    pub(super) no_interpolate: bool,
    /// Do not check references between services and resources
    #[arg(long)]
    pub(super) no_consistency: bool,
    /// Do not read the services' env files
    #[arg(long)]
    pub(super) no_env_resolution: bool,
    /// Do not fill in names, the default network and implied dependencies
    #[arg(long)]
    pub(super) no_normalize: bool,
    /// Do not make paths absolute
    #[arg(long)]
    pub(super) no_path_resolution: bool,
    /// Check the files and print nothing
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Write to a file
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Services to show (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) only: Vec<String>,
}

/// Forms of `config`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ConfigFormat {
    /// YAML
    #[default]
    Yaml,
    /// JSON
    Json,
}

/// `plan`.
#[derive(Debug, Args, Default)]
pub(super) struct Plan {
    /// Form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(super) format: PlanFormat,
    /// Show the arguments, secrets and ssh agents of each service's Dockerfile instead
    #[arg(long, conflicts_with = "targets")]
    pub(super) outline: bool,
    /// Show the stages of each service's Dockerfile instead
    #[arg(long)]
    pub(super) targets: bool,
    /// Services to plan (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// Forms of `plan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum PlanFormat {
    /// A line a step
    #[default]
    Text,
    /// JSON
    Json,
    /// Graphviz
    Dot,
}

/// `why`.
#[derive(Debug, Args, Default)]
pub(super) struct Why {
    /// Form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(super) format: WhyFormat,
    /// Services to explain (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// Forms of `why`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum WhyFormat {
    /// The steps that ran, with their reasons
    #[default]
    Text,
    /// A JSON object a service, with all steps
    Json,
}

/// `image …`.
#[derive(Debug, Subcommand)]
pub(super) enum Image {
    /// Build one image from a Dockerfile
    Build(Box<ImageBuild>),
    /// Make a base image of a root file system
    Import(ImageImport),
    /// List the images of the store
    #[command(visible_alias = "list")]
    Ls(ImageLs),
    /// Write images of the store into an archive that `docker load` takes
    Save(ImageSave),
    /// Take the images of an archive into the store
    Load(ImageLoad),
    /// Take names from images of the store
    #[command(visible_alias = "remove")]
    Rm(ImageRm),
    /// Show images of the store as JSON
    Inspect(ImageInspect),
}

/// `image build`.
#[derive(Debug, Args, Default)]
pub(super) struct ImageBuild {
    /// Write a timeline that chrome://tracing and Perfetto open (shipway's own)
    #[arg(long, value_name = "FILE")]
    pub(super) trace: Option<PathBuf>,
    /// The Dockerfile (default: DIR/Dockerfile)
    #[arg(short, long, value_name = "PATH")]
    pub(super) file: Option<PathBuf>,
    /// Name of the image
    #[arg(short = 't', long = "tag", value_name = "NAME")]
    pub(super) tags: Vec<String>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub(super) target: Option<String>,
    /// Set build-time variables
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(super) build_args: Vec<String>,
    /// Further contexts: name=path, name=docker-image://image
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub(super) build_contexts: Vec<String>,
    /// Hand a secret to the steps that ask for it
    #[arg(long = "secret", value_name = "id=ID[,src=PATH|,env=NAME]")]
    pub(super) secrets: Vec<String>,
    /// Pass an ssh agent to the steps that ask for one: `default` or ID=SOCKET
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub(super) ssh: Vec<String>,
    /// Let steps do more than usual: network.host, security.insecure
    #[arg(long = "allow", value_name = "ENTITLEMENT")]
    pub(super) allow: Vec<String>,
    /// Set labels
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(super) labels: Vec<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
    /// Do not use results of earlier builds
    #[arg(long)]
    pub(super) no_cache: bool,
    /// Ask the registry again for every base image
    #[arg(long)]
    pub(super) pull: bool,
    /// Print the image's id only
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Where the image or its files go: DIR, `-`, or type=local|tar|oci|docker|image,dest=… (default: the
    /// store and the engine)
    #[arg(short = 'o', long = "output", value_name = "SPEC")]
    pub(super) outputs: Vec<String>,
    /// Keep the image in the store and give it to the engine; short for --output type=docker
    #[arg(long)]
    pub(super) load: bool,
    /// Push the image to its registry; short for --output type=registry
    #[arg(long)]
    pub(super) push: bool,
    /// Set annotations of the image's manifest
    #[arg(long = "annotation", value_name = "[KIND:]NAME=VALUE")]
    pub(super) annotations: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "PATH")]
    pub(super) iidfile: Option<PathBuf>,
    /// Write what was made to a file, as JSON
    #[arg(long, value_name = "PATH")]
    pub(super) metadata_file: Option<PathBuf>,
    /// Network of the steps: default, host or none
    #[arg(long, value_name = "MODE")]
    pub(super) network: Option<String>,
    /// Add a line to the steps' hosts file
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(super) add_hosts: Vec<String>,
    /// Size of /dev/shm in the steps
    #[arg(long, value_name = "BYTES")]
    pub(super) shm_size: Option<String>,
    /// Limits of the steps' processes: nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(super) ulimits: Vec<String>,
    /// Do not use results of earlier builds for these stages
    #[arg(long, value_name = "STAGE[,STAGE]")]
    pub(super) no_cache_filter: Vec<String>,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL")]
    pub(super) provenance: Option<String>,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL")]
    pub(super) sbom: Option<String>,
    /// Only with `disabled=true`: images have no attestations
    #[arg(long = "attest", value_name = "type=TYPE,disabled=true")]
    pub(super) attests: Vec<String>,
    /// Check the Dockerfile and build nothing; the same as --call=check
    #[arg(long, conflicts_with = "call")]
    pub(super) check: bool,
    /// What to do with the Dockerfile: build, check, outline (arguments, secrets of the target) or targets
    #[arg(long, value_name = "METHOD[,format=text|json]", default_value = "build")]
    pub(super) call: Call,
    /// The build context
    #[arg(value_name = "DIR")]
    pub(super) context: PathBuf,
}

/// What `image build` does with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Call {
    pub(super) method: CallMethod,
    pub(super) json: bool,
    /// Succeed whatever a check finds
    pub(super) ignore_status: bool,
}

/// The methods of `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum CallMethod {
    /// Build the image
    #[default]
    Build,
    /// Say what the checks find
    Check,
    /// Show the arguments, secrets and agents of the target
    Outline,
    /// Show the stages
    Targets,
}

impl std::str::FromStr for Call {
    type Err = String;

    /// `METHOD[,format=FORMAT][,ignorestatus=BOOL]` as buildx reads it.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut call = Self::default();
        let mut fields = text.split(',');
        call.method = match fields.next() {
            Some("build" | "") => CallMethod::Build,
            Some("check" | "lint") => CallMethod::Check,
            Some("outline") => CallMethod::Outline,
            Some("targets") => CallMethod::Targets,
            Some(other) => {
                return Err(format!("there is no method `{other}`: build, check, outline or targets"));
            }
            None => CallMethod::Build,
        };
        for field in fields {
            match field.split_once('=').unwrap_or((field, "")) {
                ("format", "json") => call.json = true,
                ("format", "text" | "default") => call.json = false,
                ("ignorestatus", "" | "true" | "1") => call.ignore_status = true,
                ("ignorestatus", "false" | "0") => call.ignore_status = false,
                _ => return Err(format!("`{field}` is no option of --call: format=text, format=json")),
            }
        }
        Ok(call)
    }
}

/// `image import`.
#[derive(Debug, Args, Default)]
pub(super) struct ImageImport {
    /// The root file system: tar, plain or compressed (`-` reads standard input)
    #[arg(value_name = "ROOTFS.tar")]
    pub(super) archive: PathBuf,
    /// The image's name
    #[arg(value_name = "NAME")]
    pub(super) name: String,
    /// Apply a Dockerfile instruction to the image's config: `CMD ["bash"]`, `ENV A=b`
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub(super) changes: Vec<String>,
    /// Platform of the image (default: this machine's)
    #[arg(long, value_name = "OS/ARCH")]
    pub(super) platform: Option<String>,
}

/// `image ls`.
#[derive(Debug, Args, Default)]
pub(super) struct ImageLs {
    /// Print as a table or as JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(super) format: TableFormat,
    /// Print only the images' ids
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(super) no_trunc: bool,
}

/// `image save`.
#[derive(Debug, Args, Default)]
pub(super) struct ImageSave {
    /// The file to write (default: standard output)
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// The images
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<String>,
}

/// `image load`.
#[derive(Debug, Args, Default)]
pub(super) struct ImageLoad {
    /// The archive: plain or compressed (default: standard input)
    #[arg(short, long, value_name = "FILE")]
    pub(super) input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// `image rm`.
#[derive(Debug, Args, Default)]
pub(super) struct ImageRm {
    /// It is no error if there is no such image
    #[arg(short, long)]
    pub(super) force: bool,
    /// The images
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<String>,
}

/// `image inspect`.
#[derive(Debug, Args, Default)]
pub(super) struct ImageInspect {
    /// The images
    #[arg(value_name = "NAME", required = true)]
    pub(super) names: Vec<String>,
}

/// `push`.
#[derive(Debug, Args, Default)]
pub(super) struct Push {
    /// Go on with the others where a push fails
    #[arg(long)]
    pub(super) ignore_push_failures: bool,
    /// Also push the images of dependencies
    #[arg(long)]
    pub(super) include_deps: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
    /// Services (default: all)
    #[arg(value_name = "SERVICE")]
    pub(super) services: Vec<String>,
}

/// `cache …`.
#[derive(Debug, Subcommand)]
pub(super) enum Cache {
    /// Show what the store takes on the disk, by kind and by service
    Du(CacheDu),
    /// Remove what no image name holds and no service's last build needs
    Prune(CachePrune),
    /// Look for damage: digest again what is in the store
    Verify(CacheVerify),
}

/// `cache du`.
#[derive(Debug, Args, Default)]
pub(super) struct CacheDu {
    /// Also show every snapshot, blob and cache mount, and who holds it
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Print as a table or as JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(super) format: TableFormat,
}

/// `cache prune`.
#[derive(Debug, Args, Default)]
pub(super) struct CachePrune {
    /// Remove also what services' last builds need, and cache mounts
    #[arg(short, long)]
    pub(super) all: bool,
    /// Remove only until the store takes no more than so much: 512MB, 20GB
    #[arg(long, visible_alias = "max-used-space", value_name = "BYTES")]
    pub(super) keep_storage: Option<String>,
    /// Remove only what was not used for so long: `until=24h`
    #[arg(long, value_name = "until=DURATION")]
    pub(super) filter: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    pub(super) force: bool,
    /// How long to wait for other shipways that use the store
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(super) wait: Wait,
}

/// `cache verify`.
#[derive(Debug, Args, Default)]
pub(super) struct CacheVerify {
    /// Remove what is damaged, so that it is made again when it is needed
    #[arg(long)]
    pub(super) remove: bool,
    /// How long to wait for other shipways that use the store
    #[arg(long, value_name = "DURATION", default_value = "1m")]
    pub(super) wait: Wait,
}

/// A time to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Wait(pub(super) std::time::Duration);

impl std::str::FromStr for Wait {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        super::quantity::duration(text).map(Self)
    }
}

/// `completion`.
#[derive(Debug, Args)]
pub(super) struct Completion {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

/// `version`.
#[derive(Debug, Args, Default)]
pub(super) struct Version {
    /// Form of the output
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "pretty")]
    pub(super) format: VersionFormat,
    /// Print the version only
    #[arg(long)]
    pub(super) short: bool,
}

/// Forms of `version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum VersionFormat {
    /// For reading
    #[default]
    Pretty,
    /// JSON
    Json,
}
