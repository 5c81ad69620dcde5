//! Flags of `image …`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::TableFormat;
use super::build::Sharing;

/// `image …`.
#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Image {
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
pub(in crate::cli) struct ImageBuild {
    /// Write a timeline that chrome://tracing and Perfetto open (shipway's own)
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) trace: Option<PathBuf>,
    /// The Dockerfile (default: DIR/Dockerfile)
    #[arg(short, long, value_name = "PATH")]
    pub(in crate::cli) file: Option<PathBuf>,
    /// Name of the image
    #[arg(short = 't', long = "tag", value_name = "NAME")]
    pub(in crate::cli) tags: Vec<String>,
    /// The stage to build
    #[arg(long, value_name = "STAGE")]
    pub(in crate::cli) target: Option<String>,
    /// Set build-time variables
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    pub(in crate::cli) build_args: Vec<String>,
    /// Further contexts: name=path, name=docker-image://image
    #[arg(long = "build-context", value_name = "NAME=SOURCE")]
    pub(in crate::cli) build_contexts: Vec<String>,
    /// Hand a secret to the steps that ask for it
    #[arg(long = "secret", value_name = "id=ID[,src=PATH|,env=NAME]")]
    pub(in crate::cli) secrets: Vec<String>,
    /// Pass an ssh agent to the steps that ask for one: `default` or ID=SOCKET
    #[arg(long = "ssh", value_name = "ID[=SOCKET]")]
    pub(in crate::cli) ssh: Vec<String>,
    /// Let steps do more than usual: network.host, security.insecure
    #[arg(long = "allow", value_name = "ENTITLEMENT")]
    pub(in crate::cli) allow: Vec<String>,
    /// Set labels
    #[arg(long = "label", value_name = "NAME=VALUE")]
    pub(in crate::cli) labels: Vec<String>,
    /// Platform of the image
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<String>,
    /// Do not use results of earlier builds
    #[arg(long)]
    pub(in crate::cli) no_cache: bool,
    /// Ask the registry again for every base image
    #[arg(long)]
    pub(in crate::cli) pull: bool,
    #[command(flatten)]
    pub(in crate::cli) sharing: Sharing,
    /// Modes of the context's files: `git` for those that git keeps of what it tracks, or `disk`
    #[arg(long, value_name = "MODES", default_value = "git", value_parser = ["git", "disk"])]
    pub(in crate::cli) modes: String,
    /// Print the image's id only
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Where the image or its files go: DIR, `-`, or type=local|tar|oci|docker|image,dest=… (default: the
    /// store and the engine)
    #[arg(short = 'o', long = "output", value_name = "SPEC")]
    pub(in crate::cli) outputs: Vec<String>,
    /// Keep the image in the store and give it to the engine; short for --output type=docker
    #[arg(long)]
    pub(in crate::cli) load: bool,
    /// Push the image to its registry; short for --output type=registry
    #[arg(long)]
    pub(in crate::cli) push: bool,
    /// Set annotations of the image's manifest
    #[arg(long = "annotation", value_name = "[KIND:]NAME=VALUE")]
    pub(in crate::cli) annotations: Vec<String>,
    /// Write the image's id to a file
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) iidfile: Option<PathBuf>,
    /// Write what was made to a file, as JSON
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) metadata_file: Option<PathBuf>,
    /// Network of the steps: default, host or none
    #[arg(long, value_name = "MODE")]
    pub(in crate::cli) network: Option<String>,
    /// Add a line to the steps' hosts file
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    pub(in crate::cli) add_hosts: Vec<String>,
    /// Size of /dev/shm in the steps
    #[arg(long, value_name = "BYTES")]
    pub(in crate::cli) shm_size: Option<String>,
    /// Limits of the steps' processes: nofile=1024:2048
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    pub(in crate::cli) ulimits: Vec<String>,
    /// Do not use results of earlier builds for these stages
    #[arg(long, value_name = "STAGE[,STAGE]")]
    pub(in crate::cli) no_cache_filter: Vec<String>,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL")]
    pub(in crate::cli) provenance: Option<String>,
    /// Only `false`: images have no attestations
    #[arg(long, value_name = "BOOL")]
    pub(in crate::cli) sbom: Option<String>,
    /// Only with `disabled=true`: images have no attestations
    #[arg(long = "attest", value_name = "type=TYPE,disabled=true")]
    pub(in crate::cli) attests: Vec<String>,
    /// Check the Dockerfile and build nothing; the same as --call=check
    #[arg(long, conflicts_with = "call")]
    pub(in crate::cli) check: bool,
    /// What to do with the Dockerfile: build, check, outline (arguments, secrets of the target) or targets
    #[arg(long, value_name = "METHOD[,format=text|json]", default_value = "build")]
    pub(in crate::cli) call: Call,
    /// The build context
    #[arg(value_name = "DIR")]
    pub(in crate::cli) context: PathBuf,
}

/// What `image build` does with a Dockerfile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cli) struct Call {
    pub(in crate::cli) method: CallMethod,
    pub(in crate::cli) json: bool,
    /// Succeed whatever a check finds
    pub(in crate::cli) ignore_status: bool,
}

/// The methods of `--call`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::cli) enum CallMethod {
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
pub(in crate::cli) struct ImageImport {
    /// The root file system: tar, plain or compressed (`-` reads standard input)
    #[arg(value_name = "ROOTFS.tar")]
    pub(in crate::cli) archive: PathBuf,
    /// The image's name
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// Apply a Dockerfile instruction to the image's config: `CMD ["bash"]`, `ENV A=b`
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    pub(in crate::cli) changes: Vec<String>,
    /// Platform of the image (default: this machine's)
    #[arg(long, value_name = "OS/ARCH")]
    pub(in crate::cli) platform: Option<String>,
}

/// `image ls`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct ImageLs {
    /// Print as a table or as JSON
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(in crate::cli) format: TableFormat,
    /// Print only the images' ids
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub(in crate::cli) no_trunc: bool,
}

/// `image save`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct ImageSave {
    /// The file to write (default: standard output)
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// The images
    #[arg(value_name = "NAME", required = true)]
    pub(in crate::cli) names: Vec<String>,
}

/// `image load`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct ImageLoad {
    /// The archive: plain or compressed (default: standard input)
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::cli) input: Option<PathBuf>,
    /// Print nothing
    #[arg(short, long)]
    pub(in crate::cli) quiet: bool,
}

/// `image rm`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct ImageRm {
    /// It is no error if there is no such image
    #[arg(short, long)]
    pub(in crate::cli) force: bool,
    /// The images
    #[arg(value_name = "NAME", required = true)]
    pub(in crate::cli) names: Vec<String>,
}

/// `image inspect`.
#[derive(Debug, Args, Default)]
pub(in crate::cli) struct ImageInspect {
    /// The images
    #[arg(value_name = "NAME", required = true)]
    pub(in crate::cli) names: Vec<String>,
}
