//! The program's entry point: everything that must happen before any thread exists, then the command line, then the
//! build.

use std::io::{ErrorKind, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use crabwright::builder::{self, QuestionRequest};
use crabwright::cli::{self, Asked, Env, Failure, Invocation};
use crabwright::diag::progress::Progress;
use crabwright::diag::{Summary, interrupt};
use crabwright::registry::credentials::Variables;
use crabwright::sandbox;
use crabwright::ssh;

fn main() -> ExitCode {
    // The sandbox starts this program a second time to set up the process of a RUN, which must happen before everything
    // else.
    if std::env::args_os().nth(1).is_some_and(|word| word == sandbox::INIT_COMMAND) {
        return sandbox::init_main();
    }
    match run() {
        Ok(code) => code,
        Err((failure, progress)) => {
            failure.report(&progress);
            ExitCode::from(failure.exit_code)
        }
    }
}

fn run() -> Result<ExitCode, (Failure, Progress)> {
    let env = Env::of_process();
    let plain = |failure: Failure| (failure, Progress::stderr());
    let start_logging = |flags| {
        let progress = cli::start_logging(flags, env).map_err(|error| plain(Failure::from_error(&error)))?;
        recover(&progress)?;
        Ok(progress)
    };
    match cli::parse(std::env::args_os()).map_err(|error| plain(error.into()))? {
        Invocation::Build(flags) => {
            let progress = start_logging(&flags.log)?;
            let result = name_agent(&flags.secrets.ssh, env).and_then(|()| build(*flags, env, &progress));
            result.map_err(|failure| (failure, progress))
        }
        Invocation::Lint(flags) => {
            let progress = start_logging(&flags.log)?;
            lint(*flags, env, &progress).map_err(|failure| (failure, progress))
        }
        Invocation::Push(flags) => {
            let progress = start_logging(&flags.log)?;
            push(*flags, env, &progress).map_err(|failure| (failure, progress))
        }
        Invocation::Warm(flags) => {
            let progress = start_logging(&flags.log)?;
            warm(*flags, env, &progress).map_err(|failure| (failure, progress))
        }
        Invocation::Prune(flags) => {
            let progress = start_logging(&flags.log)?;
            prune(*flags, env, &progress).map(|()| ExitCode::SUCCESS).map_err(|failure| (failure, progress))
        }
        Invocation::Login(flags) => {
            recover(&Progress::stderr())?;
            let said = cli::login(&flags, &Variables::of_process(), &mut std::io::stdin().lock());
            let printed = said.map_err(Failure::from).and_then(|said| print(&said));
            printed.map(|()| ExitCode::SUCCESS).map_err(plain)
        }
        Invocation::Print(text) => print(&text).map(|()| ExitCode::SUCCESS).map_err(plain),
    }
}

/// Restores the container's own files if a build died that had moved them away. This comes before any path of the
/// command line is used, because the path may be one of them.
fn recover(progress: &Progress) -> Result<(), (Failure, Progress)> {
    sandbox::recover().map_err(|error| (Failure::from_error(&error), progress.clone()))
}

/// Restarts the program with the agent of `--ssh default=SOCKET` in its environment, because the git library finds
/// agents only there and a program cannot safely change its own environment.
#[expect(clippy::disallowed_methods, reason = "nothing has begun")]
fn name_agent(flags: &[String], env: Env<'_>) -> Result<(), Failure> {
    let Some(socket) = ssh::unnamed_socket(flags, env.lookup()) else { return Ok(()) };
    let mut arguments = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    let error = again.args(arguments).env(ssh::AGENT_VARIABLE, socket).exec();
    Err(Failure::new(format!("failed to restart the program with the agent of --ssh default: {error}")))
}

/// Fetches base images; fails if none could be fetched.
fn warm(flags: cli::WarmerFlags, env: Env<'_>, progress: &Progress) -> Result<ExitCode, Failure> {
    let request = cli::warm_request(flags, env)?;
    let summary = builder::warm(&request, progress).map_err(Failure::from)?;
    Ok(if summary.present == 0 && summary.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Cleans up a cache.
fn prune(flags: cli::PruneFlags, env: Env<'_>, progress: &Progress) -> Result<(), Failure> {
    let request = cli::prune_request(flags, env)?;
    let pruned = builder::prune_cache(&request, progress).map_err(Failure::from)?;
    print(&cli::prune_report(&pruned))
}

/// Builds, or answers a question about the Dockerfile.
fn build(flags: cli::BuildFlags, env: Env<'_>, progress: &Progress) -> Result<ExitCode, Failure> {
    interrupt::install().map_err(|error| unwatched(&error))?;
    match cli::request(flags, env)? {
        Asked::Question(request) => answer(&request, progress),
        Asked::Build(request) => {
            // No thread exists yet: the only time at which the process can move into a user namespace.
            let chosen = sandbox::probe(request.sandbox.isolation, request.sandbox.own_root)
                .and_then(|chosen| sandbox::enter_user_namespace(&chosen).map(|()| chosen));
            interrupt::end_at_second_signal().map_err(|error| unwatched(&error))?;
            ended(builder::build(&request, chosen, progress), progress)
        }
    }
}

/// Checks a Dockerfile.
fn lint(flags: cli::LintFlags, env: Env<'_>, progress: &Progress) -> Result<ExitCode, Failure> {
    interrupt::install().map_err(|error| unwatched(&error))?;
    answer(&cli::lint_request(flags, env)?, progress)
}

/// Prints the answer to a question about a Dockerfile.
fn answer(request: &QuestionRequest, progress: &Progress) -> Result<ExitCode, Failure> {
    interrupt::end_at_second_signal().map_err(|error| unwatched(&error))?;
    let answer = builder::answer(request, progress).map_err(Failure::from);
    if let Some(signal) = interrupt::requested() {
        let failure = answer.err().unwrap_or_else(|| Failure::new("the answer is not complete"));
        return Err(failure.interrupted_by(signal));
    }
    let answer = answer?;
    print(&answer.text)?;
    Ok(if answer.has_findings { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Pushes the image that an earlier build wrote.
fn push(flags: cli::PushFlags, env: Env<'_>, progress: &Progress) -> Result<ExitCode, Failure> {
    interrupt::install().and_then(|()| interrupt::end_at_second_signal()).map_err(|error| unwatched(&error))?;
    let request = cli::push_request(flags, env)?;
    ended(builder::push_image(&request, progress), progress)
}

/// Reports the result of a build or a push: its summary, or a failure. A signal decides the exit code in either case.
fn ended(result: Result<Summary, builder::BuildError>, progress: &Progress) -> Result<ExitCode, Failure> {
    match (result, interrupt::requested()) {
        (Ok(summary), _) => {
            progress.summary(&summary);
            Ok(ExitCode::SUCCESS)
        }
        (Err(error), Some(signal)) => Err(Failure::from(error).interrupted_by(signal)),
        (Err(error), None) => Err(error.into()),
    }
}

fn unwatched(error: &std::io::Error) -> Failure {
    Failure { causes: vec![error.to_string()], ..Failure::new("failed to watch for SIGTERM and SIGINT") }
}

/// Prints text to standard output. A closed pipe (`crabwright --help | head`) is not a failure.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure { causes: vec![error.to_string()], ..Failure::new("failed to write to standard output") })
        }
        _ => Ok(()),
    }
}
