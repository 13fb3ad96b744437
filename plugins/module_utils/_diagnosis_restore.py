# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: may change without notice.
"""What goes wrong at a restore: processes, security modules and cgroups."""

from __future__ import annotations

from ansible_collections.stasis.lxc.plugins.module_utils import (
    _diagnosis_types,
)

RESTORE_RULES: tuple[_diagnosis_types.Rule, ...] = (
    # Processes
    _diagnosis_types.Rule(
        "pids_limit",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        ("Can't fork for %: Resource temporarily unavailable", "Unable to create a thread: -11"),
        "The limit of processes is reached: pids.max of a cgroup, kernel.pid_max or kernel.threads-max.",
        "Raise the limit above the number of the container's processes and threads.",
        "criu/cr-restore.c, fork_with_pid()",
    ),
    _diagnosis_types.Rule(
        "program_o_path",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.RESTORE,
        ("sys_prctl(PR_SET_MM, PR_SET_MM_MAP) failed with -9$",),
        "A running program was also open with O_PATH, as systemd-executor is; CRIU took both for one file, which no "
        "program can run from.",
        "Dump with stasis.lxc.lxc_checkpoint, which puts that right in the image; before a dump by CRIU alone stop what "
        "keeps the program open.",
        "criu/file-ids.c, fd_id_cache_lookup()",
    ),
    _diagnosis_types.Rule(
        "pid_taken",
        _diagnosis_types.TRANSIENT,
        _diagnosis_types.RESTORE,
        (
            "Can't fork for %: File exists",
            "Pid % do not match expected %",
            "Thread pid mismatch %",
            "First PID in a PID namespace needs to be % and not %",
            "Setting PID failed",
        ),
        "Another process has one of the pids that the container had.",
        "Try again; if it stays, stop the process with that pid, or restore into a pid namespace of its own as LXC does.",
        "criu#2190",
    ),
    _diagnosis_types.Rule(
        "session_taken",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "Current sid % intersects with %",
            "Current gid % intersects with %",
            "Requested sid % doesn't match inherited %",
        ),
        "CRIU itself runs in a session or process group that has a number of the container's.",
        "Run the restore from another session, as with setsid.",
        "criu/pstree.c, prepare_pstree_for_shell_job()",
    ),
    _diagnosis_types.Rule(
        "memory_limit",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        ("% killed by signal 9: Killed",),
        "The kernel killed a process of the restore, mostly because memory or the limit of a cgroup ran out.",
        "Look in the kernel's log for 'Out of memory', and raise lxc.cgroup2.memory.max or free memory.",
        "criu/cr-restore.c, sigchld_process()",
        _diagnosis_types.SYMPTOM,
    ),
    _diagnosis_types.Rule(
        "restorer_crash",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "% killed by signal 4: %",
            "% killed by signal 7: %",
            "% killed by signal 11: %",
            "% killed by signal 31: %",
            "% stopped by signal 11: %",
            "Restorer stack smash detected %",
        ),
        "A process crashed while CRIU restored it; signal 4 means another processor, 31 a seccomp filter.",
        "Read the lines before; use the CRIU that dumped it, and a host with the same kernel and processor.",
        "criu/cr-restore.c, sigchld_process()",
        _diagnosis_types.SYMPTOM,
    ),
    _diagnosis_types.Rule(
        "vdso_differs",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "ELF header magic mismatch",
            "Can't find vDSO area in image",
            "vDSO isn't provided by kernel, but exists in images",
            "Task had vdso, restorer doesn't",
            "Failed to map vdso %",
        ),
        "This CRIU does not understand the kernel's vDSO, or that in the image: it is older than the one that dumped.",
        "Restore with the version of CRIU that dumped it, or a newer one; apply the role stasis.lxc.criu.",
        "criu#2622",
    ),
    _diagnosis_types.Rule(
        "rseq_restore",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        ("rseq: can't restore as kernel doesn't support it", "failed sys_rseq(%"),
        "The dumped programs use restartable sequences, and this kernel has none or other ones.",
        "Restore on the kernel of the dump, or on a newer one.",
        "criu/cr-restore.c, prep_rseq()",
    ),
    _diagnosis_types.Rule(
        "capabilities",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "Unable to restore capabilities: %",
            "Unable to drop capability %",
            "Unable to raise ambient capability %",
            "Can't setgroups(%",
            "Unable to set real, effective and saved %",
        ),
        "A process could not get its user, groups or capabilities back.",
        "Restore as root with all capabilities, and with the same lxc.cap.drop, lxc.cap.keep and lxc.idmap as at the dump.",
        "criu#499",
    ),
    _diagnosis_types.Rule(
        "seccomp_filter",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "seccomp: SECCOMP_SET_MODE_FILTER returned %",
            "seccomp: PR_SET_SECCOMP returned %",
            "failed to suspend seccomp, restore will probably fail...",
        ),
        "The seccomp filters of the container could not be restored.",
        "Restore on a kernel with CONFIG_CHECKPOINT_RESTORE and CONFIG_SECCOMP_FILTER, as root with all capabilities.",
        "criu/pie/restorer.c, restore_seccomp_filter()",
    ),
    _diagnosis_types.Rule(
        "loginuid",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        ("Setting loginuid for % task failed%",),
        "The kernel does not let CRIU restore the login uid.",
        "Restore with CAP_AUDIT_CONTROL, not from inside another container.",
        "criu/cr-restore.c, prepare_userns_hook()",
    ),
    # Security modules
    _diagnosis_types.Rule(
        "lsm_absent",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.RESTORE,
        (
            "apparmor LSM specified but apparmor not supported by kernel",
            "selinux LSM specified but selinux not supported by kernel",
            "mismatched lsm types and lsm profile specified",
            "unknown lsm %",
            "invalid argument % for --lsm-profile",
        ),
        "The profile is for a security module that this kernel does not run, or another one than at the dump.",
        "Leave lsm_profile away, set lxc.apparmor.profile = unconfined, or restore on a host with that security module.",
        "criu#323",
    ),
    _diagnosis_types.Rule(
        "lsm_profile",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.RESTORE,
        ("can't write lsm profile %",),
        "The AppArmor or SELinux profile of the container is not loaded on this host; liblxc also passes the word "
        "'generated' on as if it were one.",
        "Load it with apparmor_parser -r from LXC_PATH/NAME/apparmor, or set lsm_profile.",
        "podman#12437",
    ),
    _diagnosis_types.Rule(
        "apparmor_policy",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "apparmor parsing failed %",
            "write AA policy % failed%",
            "failed to write policy in AA namespace %",
            "failed to create namespace %",
        ),
        "The AppArmor policy of the container could not be loaded here.",
        "Install apparmor_parser in the version of the source host; look at the kernel's log for what it refuses.",
        "criu#444",
    ),
    _diagnosis_types.Rule(
        "apparmor_label",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.BOTH,
        ("err scanfing%",),
        "The kernel has AppArmor compiled in and gives no profile for a process.",
        "Boot with AppArmor on, or without it: it must be among the modules in /sys/kernel/security/lsm, or not be built in.",
        "criu#2033",
    ),
    # cgroups
    _diagnosis_types.Rule(
        "cgroup_exists",
        _diagnosis_types.CONFIGURATION,
        _diagnosis_types.RESTORE,
        ("Abort restore of existing cgroups",),
        "The cgroups of the container exist already.",
        "Remove what a failed restore left (rmdir below lxc.payload.NAME), or set manage_cgroups to full.",
        "lxc#3723",
    ),
    _diagnosis_types.Rule(
        "cgroup_property",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "Failed writing % to %",
            "write to cgroup.subtree_control%",
            "Restoring % special property failed",
            "Restoring special cpuset props failed!",
        ),
        "A limit of the container's cgroup cannot be set on this host.",
        "Look whether the host has that controller and as many processors; or set manage_cgroups to soft.",
        "criu/cgroup.c, restore_cgroup_prop()",
    ),
    _diagnosis_types.Rule(
        "cgroup_move",
        _diagnosis_types.ENVIRONMENT,
        _diagnosis_types.RESTORE,
        (
            "Can't move % into %",
            "Can't move into %",
            "cgroupd: Can't move thread % into %",
            "Can't make cgroup dir %",
            "Cgroup dir % doesn't exist",
            "Failed accessing cgroup dir %",
            "controller % not found",
            "Can't mount controller dir %",
        ),
        "A process could not be put into its cgroup.",
        "See that the host has the cgroup controllers and the layout (v1, hybrid or v2) of the dump.",
        "criu/cgroup.c, move_in_cgroup()",
    ),
)
