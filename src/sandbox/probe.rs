//! Finds out which isolation works in this container, by trying each in short-lived processes.
//!
//! It depends on capabilities, seccomp, AppArmor, SELinux, id maps and the masks over `/proc`, and not all of these can
//! be read from inside. So nothing is inferred: each mechanism is tried exactly as it will be used.

use rustix::fs::StatVfsMountFlags;
use rustix::process::{WaitOptions, waitpid};
use rustix::thread::{CapabilitySet, UnshareFlags};

use super::launch::run_job;
use super::message::{Failure, Job, Report};
use super::raw::Fork;
use super::{
    Chosen, IdMapping, Isolation, Mechanism, OwnRootConsent, SandboxError, capability, container_check, mounts,
    null_device, raw,
};
use crate::diag::with_causes;

const ADVICE: &str = "change one of these in the pod: run as root (runAsUser: 0) with the default capabilities, for own-root \
     isolation; or allow user namespaces (seccompProfile: Unconfined, appArmorProfile: Unconfined, and \
     user.max_user_namespaces above 0 on the node), for namespace isolation";

/// Chooses the isolation to use.
///
/// Must be called while the program has its original ids, before [`super::enter_user_namespace`].
///
/// # Errors
/// No mechanism works, or not the requested one. The error says why and what to change in the pod.
pub fn probe(requested: Isolation, consent: OwnRootConsent) -> Result<Chosen, SandboxError> {
    null_device::ensure()?;
    match requested {
        Isolation::Namespace => {
            try_namespace().map_err(|reasons| SandboxError::Unavailable { requested, reason: reasons.join("; ") })
        }
        Isolation::OwnRoot => try_own_root(consent, "as asked for"),
        Isolation::Auto => {
            let reasons = match try_namespace() {
                Ok(chosen) => return Ok(chosen),
                Err(reasons) => reasons,
            };
            match try_own_root(consent, &format!("namespaces are not allowed here: {}", reasons.join("; "))) {
                Ok(chosen) => Ok(chosen),
                Err(error) => {
                    let mut tried: Vec<String> = reasons.iter().map(|reason| format!("namespace: {reason}")).collect();
                    tried.push(match error {
                        SandboxError::Unavailable { reason, .. } => format!("own-root: {reason}"),
                        other => format!("own-root: {other}"),
                    });
                    Err(SandboxError::NothingWorks { tried, advice: ADVICE.into() })
                }
            }
        }
    }
}

/// Returns the namespaces that work, or for each attempt why it failed.
fn try_namespace() -> Result<Chosen, Vec<String>> {
    let mut attempts: Vec<Option<IdMapping>> = Vec::new();
    if capability::effective().is_ok_and(|effective| effective.contains(CapabilitySet::SYS_ADMIN)) {
        attempts.push(None);
    }
    attempts.extend(IdMapping::candidates().into_iter().map(Some));
    let mut reasons: Vec<String> = Vec::new();
    for mapping in attempts {
        let how = match &mapping {
            None => "root with CAP_SYS_ADMIN".to_owned(),
            Some(mapping) => mapping.to_string(),
        };
        let reason = match run_job(&Job::Probe { mapping: mapping.clone() }) {
            Ok(Report::Probed { processes }) => return Ok(namespace(how, mapping, processes)),
            Ok(Report::Failed(failure)) => failure.to_string(),
            Ok(_) => "the probe sent no result".to_owned(),
            Err(error) => with_causes(&error),
        };
        // The same restriction usually applies to every mapping.
        if !reasons.iter().any(|known| known.ends_with(&reason)) {
            reasons.push(format!("{how}: {reason}"));
        }
    }
    Err(reasons)
}

fn namespace(mut reason: String, id_mapping: Option<IdMapping>, processes: bool) -> Chosen {
    if id_mapping.as_ref().is_some_and(IdMapping::is_single) {
        reason.push_str(", so USER and chown to other users do not work");
    }
    if !processes {
        reason.push_str("; /proc shared: the pod masks it");
    }
    Chosen { mechanism: Mechanism::Namespace, reason, id_mapping, processes, own_system: false }
}

fn try_own_root(consent: OwnRootConsent, reason: &str) -> Result<Chosen, SandboxError> {
    let unavailable = |reason: String| SandboxError::Unavailable { requested: Isolation::OwnRoot, reason };
    let check = container_check();
    if !check.is_container && !consent.outside_container {
        return Err(SandboxError::NotInContainer { evidence: check.evidence });
    }
    if !rustix::process::geteuid().is_root() {
        return Err(unavailable("it needs root; run the container with runAsUser: 0".into()));
    }
    if rustix::fs::statvfs("/").is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return Err(unavailable("it renames files in /, which is read-only (readOnlyRootFilesystem: true)".into()));
    }
    let useful = [
        (CapabilitySet::CHOWN, "CHOWN"),
        (CapabilitySet::DAC_OVERRIDE, "DAC_OVERRIDE"),
        (CapabilitySet::FOWNER, "FOWNER"),
    ];
    let effective =
        capability::effective().map_err(|errno| unavailable(format!("the capabilities cannot be read: {errno}")))?;
    let missing: Vec<&str> =
        useful.iter().filter(|(capability, _)| !effective.contains(*capability)).map(|(_, name)| *name).collect();
    let mut reason = reason.to_owned();
    if !missing.is_empty() {
        // Root's files, which are most files of images, can still be written. Owners are recorded in any case.
        reason.push_str("; the pod drops ");
        reason.push_str(&missing.join(", "));
        reason.push_str(", so that a RUN can write only files of root, and neither USER nor chown to other users work");
    }
    let own_system = consent.own_system;
    Ok(Chosen { mechanism: Mechanism::OwnRoot, reason, id_mapping: None, processes: false, own_system })
}

/// Tries the set-up of a command with these ids (`None`: the current ones), in the second process.
pub(super) fn try_here(mapping: Option<IdMapping>) -> Result<Report, Failure> {
    match mapping {
        Some(mapping) => super::user_namespace::enter(&mapping)?,
        None => raw::unshare(UnshareFlags::NEWNS).map_err(Failure::step("unshare the mount namespace"))?,
    }
    mounts::try_mounts()?;
    raw::unshare(UnshareFlags::NEWUTS | UnshareFlags::NEWIPC)
        .map_err(Failure::step("unshare the host name and IPC namespaces"))?;
    Ok(Report::Probed { processes: try_process_namespace()? })
}

fn try_process_namespace() -> Result<bool, Failure> {
    if raw::unshare(UnshareFlags::NEWPID).is_err() {
        return Ok(false);
    }
    match raw::fork().map_err(Failure::io("fork"))? {
        Fork::Child => raw::exit_now(if mounts::try_proc().is_ok() { 0 } else { 1 }),
        Fork::Parent(pid) => {
            let ended = waitpid(Some(pid), WaitOptions::empty()).map_err(Failure::step("wait for a probe"))?;
            Ok(ended.is_some_and(|(_, status)| status.exit_status() == Some(0)))
        }
    }
}
