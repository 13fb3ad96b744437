#!/usr/bin/python

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxc_checkpoint
short_description: Checkpoint and restore running LXC containers with CRIU
version_added: 0.1.0
description:
  - Writes the processes, memory, sockets and network devices of a running LXC container to a directory, and lets the container
    go on from there later, also after a reboot of the host.
  - The module builds CRIU's command line itself. A restore goes through C(lxc-checkpoint), so that LXC supervises the restored
    container as any other.
  - An image is written beside O(directory) and put in its place in one step when it is complete, so that a failure leaves the
    container running and an older checkpoint as it was.
  - The role P(stasis.lxc.criu#role) installs what this module needs on the managed host.
author:
  - The stasis.lxc authors (@stasis-lxc)
extends_documentation_fragment:
  - stasis.lxc.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
options:
  name:
    description:
      - Name of the container.
    type: str
    required: true
    aliases: [container]
  state:
    description:
      - V(checkpointed) makes sure that there is a checkpoint in O(directory). With O(stop=true) the container is stopped
        afterwards, and a checkpoint that is already there counts only if it is what stopped the container.
      - V(restored) makes sure that the container runs and was restored from the checkpoint in O(directory).
      - V(absent) removes the checkpoint.
      - Each other option says to which states it applies; one that is set where it does not apply is refused.
    type: str
    required: true
    choices: [checkpointed, restored, absent]
  directory:
    description:
      - The checkpoint, an absolute path. Missing directories above it are made.
      - It and every directory above it must belong to root and be writable by root only, since the checkpoint holds the
        memory of the container.
      - It must not be a mount point, a symbolic link, or inside the container's own directory.
    type: str
    required: true
    aliases: [checkpoint_dir]
  lxc_path:
    description:
      - Where LXC keeps its containers, as C(lxc-start -P).
    type: str
    default: /var/lib/lxc
  stop:
    description:
      - Whether the container is stopped by the dump. Otherwise it runs on, as with C(lxc-checkpoint) without C(-s).
      - Only a checkpoint that stopped the container can be restored without O(allow_stale).
      - For O(state=checkpointed); the default is V(false).
    type: bool
  prove:
    description:
      - Whether the image is restored on trial before it counts. With O(stop=true) this happens while the container is frozen and
        could still go on, and only an image that was restored as far as possible without letting it run may stop the container.
        Otherwise CRIU rolls the dump back, the container runs on with its connections, and the task fails with what the trial
        has shown.
      - The trial takes place in namespaces of its own, over an overlay of the root file system whose upper layer is in memory,
        with network devices that lead nowhere. Nothing of it is written to the container's files or its network, and
        O(action_scripts) are not run.
      - It makes the time longer for which the container is frozen, see the project's C(docs/benchmark). V(false) is for those who
        need the shortest time.
      - With O(stop=false) the container runs on first, so that nobody waits for the trial. An image that cannot be restored is
        then not published, and an older checkpoint stays.
      - On a host with cgroup v2 alone there is no trial yet, because CRIU cannot give it cgroups of its own.
      - What was shown is in RV(proof).
      - For O(state=checkpointed); the default is V(true) with O(stop=true), else V(false).
    type: bool
  overwrite:
    description:
      - Whether a checkpoint of this container that is already there is replaced while the container runs on.
        With O(stop=true) it always is.
      - For O(state=checkpointed); the default is V(false).
    type: bool
  force:
    description:
      - With O(state=restored), stop the container first if it is running; what it does now is lost then. Also restore with an
        older CRIU than the one that made the checkpoint, on a CPU that does not suit the processes, or with other cgroups; each of
        these is then a warning. It says nothing about staleness, for which there is O(allow_stale).
      - With O(state=absent), remove the checkpoint even if it is the only fresh one of a stopped container.
      - For O(state=restored) and O(state=absent); the default is V(false).
    type: bool
  allow_stale:
    description:
      - Whether a checkpoint is restored that is not fresh, see RV(stale_reasons). Memory from then meets files from now, which
        destroys data where the two belong together.
      - For O(state=restored); the default is V(false).
    type: bool
  allow_unsigned:
    description:
      - Whether a checkpoint is restored that nobody vouches for. Without it, one counts only if this host made it, or if the
        task names in O(verify_key) the key that signed it.
      - A host proves that it made a checkpoint by a key that never leaves it, C(/etc/stasis/host.key). A checkpoint of another
        host, or of a version of this collection that did not have this option, has no such proof.
      - Who can write a checkpoint decides what runs in the container, with all that CRIU and the kernel take from it as root
        of the host. So set it only where nobody else can have written it.
      - O(external_mounts) of such a checkpoint are not taken over; the task has to name them.
      - For O(state=restored); the default is V(false).
    type: bool
  autostart:
    description:
      - What to do with O(stop=true) if LXC (C(lxc.start.auto)) or systemd (an enabled C(lxc@) unit) would start the container
        by itself, which makes the checkpoint stale.
      - V(refuse) fails, V(inhibit) switches that off until the container is restored or the checkpoint is removed, V(ignore) warns.
      - For O(state=checkpointed); the default is V(refuse).
    type: str
    choices: [refuse, inhibit, ignore]
  preflight:
    description:
      - What to do if M(stasis.lxc.lxc_checkpoint_preflight) finds something that makes the dump impossible. The same checks are
        made before anything is frozen, in check mode as well; see RV(findings).
      - V(refuse) fails, and the container is not touched. V(warn) tries it all the same, for a CRIU that can do more than the
        preflight knows of, by a plugin or by O(criu_args).
      - What may fail never keeps the dump from being tried, and what is lost only where it is protection or correctness (C(grave)).
      - For O(state=checkpointed); the default is V(refuse).
    type: str
    choices: [refuse, warn]
  verify:
    description:
      - How much of the checkpoint is compared with its manifest before CRIU reads it.
      - V(full) reads every file and compares its SHA-256; V(size) compares names and sizes only; V(none) compares nothing, to
        save what can be saved of a damaged checkpoint.
      - In any case each file must be a regular one of root's that nobody else can write and that has no other name.
      - For O(state=restored); the default is V(full).
    type: str
    choices: [full, size, none]
  sign_key:
    description:
      - A key with which the manifest of the checkpoint is signed, so that O(verify_key) can tell it from one of another host.
      - The path of an Ed25519 private key in PEM without a passphrase (needs OpenSSL 3.0 or newer on the managed host), or of a
        file with a secret of 32 bytes or more, which is used for an HMAC with SHA-256.
      - It must belong to root and be readable by root only. It is tried before anything is frozen.
      - For O(state=checkpointed).
    type: path
  verify_key:
    description:
      - Accept the checkpoint only if its manifest was signed with this key; that is checked before anything in it is believed.
      - Without it a checkpoint counts if this host made it, see O(allow_unsigned), with which it has no meaning.
      - The path of an Ed25519 public key in PEM, or of the secret that was the O(sign_key). Which kind of signature is accepted
        follows from the key alone.
      - It does not tell the newest checkpoint of a container from an older one that was signed too.
      - It needs O(verify=full).
      - For O(state=restored).
    type: path
  tcp_established:
    description:
      - Whether established TCP connections are kept.
      - For O(state=checkpointed) and O(state=restored); the default is V(true), for a restore what the dump used.
    type: bool
  tcp_close:
    description:
      - Whether TCP connections are closed instead of taken up again.
      - For O(state=restored); the default is V(false).
    type: bool
  skip_in_flight:
    description:
      - Whether connections that are not yet accepted are left out; otherwise they make the dump fail.
      - For O(state=checkpointed); the default is V(true).
    type: bool
  file_locks:
    description:
      - Whether file locks are kept.
      - For O(state=checkpointed) and O(state=restored); the default is V(true), for a restore what the dump used.
    type: bool
  link_remap:
    description:
      - Whether deleted files that still have another name are given a temporary one.
      - For O(state=checkpointed) and O(state=restored); the default is V(true), for a restore what the dump used.
    type: bool
  force_irmap:
    description:
      - Whether CRIU looks for the paths of inotify and fanotify watches in its usual places.
      - For O(state=checkpointed); the default is V(true).
    type: bool
  ghost_limit:
    description:
      - The largest deleted but open file, in bytes, that is copied into the checkpoint. CRIU's own limit is 1 MiB.
      - From 0 to 4294967295.
      - For O(state=checkpointed).
    type: int
  external_mounts:
    description:
      - Bind mounts of the container that its configuration does not name. Those in C(lxc.mount.entry) are found by themselves.
      - For O(state=checkpointed) and O(state=restored); for a restore the default is what the dump used.
    type: list
    elements: dict
    suboptions:
      target:
        description: Where it is inside the container.
        type: str
        required: true
      source:
        description: What it is on the host.
        type: path
        required: true
  manage_cgroups:
    description:
      - CRIU's way with cgroups.
      - For O(state=checkpointed) and O(state=restored); the default is V(full), for a restore what the dump used.
    type: str
    choices: [none, props, soft, full, strict, ignore]
  network_lock:
    description:
      - How the network is held still during the dump.
      - V(bridge) lets the hook take the host-side veths out of their bridges. V(nftables) and V(iptables) are CRIU's own, V(skip)
        is nothing at all.
      - V(auto) takes V(bridge) where every NIC is a veth in a bridge and no established TCP connection runs over loopback or
        another interface, and otherwise one of CRIU's own that works on the host.
      - For O(state=checkpointed); the default is V(auto).
    type: str
    choices: [auto, bridge, nftables, iptables, skip]
  action_scripts:
    description:
      - Scripts on the managed host that are run at each of CRIU's events, in this order. The first that fails stops the dump or
        the restore, and the container runs on.
      - They get CRIU's environment (C(CRTOOLS_SCRIPT_ACTION), C(CRTOOLS_IMAGE_DIR), C(CRTOOLS_INIT_PID)) and run while the
        container is frozen. They must belong to root and be writable by root only.
      - For O(state=checkpointed) and O(state=restored).
    type: list
    elements: path
  nics:
    description:
      - Network devices that are to be attached elsewhere, or get another name on the host, than when they were dumped.
      - For O(state=restored).
    type: list
    elements: dict
    suboptions:
      name:
        description: Name inside the container, for example V(eth0).
        type: str
        required: true
      bridge:
        description: The bridge it is put in.
        type: str
      veth:
        description: Name of its host side.
        type: str
  lsm_profile:
    description:
      - The LSM profile for the restored processes, as C(apparmor:NAME) or C(selinux:CONTEXT), instead of the dumped one.
      - For O(state=restored).
    type: str
  criu_args:
    description:
      - Further arguments for CRIU, as a last resort. Those that the module manages are refused.
      - For O(state=checkpointed) and O(state=restored).
    type: list
    elements: str
  criu_config:
    description:
      - A configuration file of CRIU's. It is the only one that is read, and may not set what the module manages.
      - For O(state=checkpointed) and O(state=restored).
    type: path
  criu_path:
    description:
      - The CRIU to use instead of the one that the role installed.
      - For O(state=checkpointed) and O(state=restored).
    type: path
  verbosity:
    description:
      - How much CRIU writes to its log.
      - For O(state=checkpointed) and O(state=restored); the default is V(4).
    type: int
    choices: [0, 1, 2, 3, 4]
  retries:
    description:
      - How often to try again if CRIU fails for a cause that passes by itself, as unread messages in a netlink socket or a process
        that is just ending. RV(diagnoses) calls such a cause V(transient).
      - It is tried again, after 0.5 seconds and each time twice as long up to 4 seconds, only if the container is as it was
        before, and at a restore only if nothing of it has run. All tries together have the time of O(timeout). See RV(retried).
      - From 0 to 20.
      - For O(state=checkpointed) and O(state=restored); the default is V(2).
    type: int
  timeout:
    description:
      - Seconds after which the hook refuses CRIU's next event, so that CRIU rolls back by itself and the container runs on.
        It is also how long the task waits for another one on the same container.
      - From 1 to 604800, a week.
      - For O(state=checkpointed) and O(state=restored); the default is V(300).
    type: int
  kill_timeout:
    description:
      - Seconds from then until CRIU is killed. That can leave sockets in repair mode and is reported.
      - From 1 to 86400, a day.
      - For O(state=checkpointed) and O(state=restored); the default is V(60).
    type: int
requirements:
  - The role P(stasis.lxc.criu#role) applied to the managed host
  - LXC 4.0 or newer with C(lxc-checkpoint)
  - iproute2
notes:
  - A restored container that reboots from inside stays stopped, since LXC's monitor of a restored container has no loop for it.
  - A checkpoint holds the memory of the container, with every key and password in it. Treat it as a secret.
  - A fingerprint of the root file system shows that something wrote to it, but cannot prove that nothing ran. It covers the
    layers of an overlay, and not the bind mounts of C(lxc.mount.entry).
  - A root file system on a block device can be fresh with ext2, ext3, ext4 or btrfs. Restore another one with O(allow_stale).
seealso:
  - module: stasis.lxc.lxc_checkpoint_info
  - module: stasis.lxc.criu_info
"""

EXAMPLES = r"""
- name: Keep a web server's running state over a reboot
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: checkpointed
    directory: /var/lib/stasis/web1
    stop: true

- name: Reboot the host
  ansible.builtin.reboot:

- name: Let the web server go on where it was
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: restored
    directory: /var/lib/stasis/web1

- name: Take a snapshot of a container that runs on
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: checkpointed
    directory: /var/lib/stasis/web1-nightly
    overwrite: true

- name: Sign a checkpoint that is to be restored on another host
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: checkpointed
    directory: /var/lib/stasis/web1
    stop: true
    sign_key: /etc/stasis/sign.pem

- name: Restore it there only if it is what was signed
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: restored
    directory: /var/lib/stasis/web1
    verify_key: /etc/stasis/sign.pub

- name: Restore one that an older version of this collection made here, where nobody else can write
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: restored
    directory: /var/lib/stasis/web1
    allow_unsigned: true

- name: Restore into another bridge
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: restored
    directory: /var/lib/stasis/web1
    nics:
      - name: eth0
        bridge: br-quarantine
        veth: veth-web1

- name: Remove a checkpoint
  stasis.lxc.lxc_checkpoint:
    name: web1
    state: absent
    directory: /var/lib/stasis/web1
"""

RETURN = r"""
action:
  description: What was done, or in check mode would be, V(dump), V(restore), V(remove) or V(none). V(none) on failure.
  returned: always
  type: str
  sample: dump
state:
  description:
    - State of the checkpoint afterwards, V(absent) or V(sealed); in check mode the state that it would have.
    - On failure the state that it has, which was looked at again, so that a C(rescue) can decide by it. It can then be also
      V(damaged), V(foreign) for a directory that is no checkpoint, V(staging), V(committed), V(untrusted) for one that
      O(verify_key) does not speak for, and V(unknown) where the parameters were refused or it could not be found out.
  returned: always
  type: str
  sample: sealed
container_state:
  description:
    - State of the container afterwards, LXC's word in lower case, or V(absent); in check mode the state that it would have.
    - On failure the state that it has, which was looked at again; V(unknown) where the parameters were refused or it could not
      be found out.
  returned: always
  type: str
  sample: running
checkpoint:
  description:
    - The manifest of the checkpoint, with RV(checkpoint.generation), RV(checkpoint.nics), RV(checkpoint.options),
      RV(checkpoint.versions) and RV(checkpoint.files). Before a dump in check mode the older one. On failure that of the
      checkpoint that is there, empty where there is none whose manifest can be believed.
  returned: always
  type: dict
  contains:
    generation:
      description: 1, or one more than the checkpoint that the container was restored from.
      type: int
    sequence:
      description: Counts the dumps into O(directory), so that the newer of two is known whatever the clock says.
      type: int
    created:
      description: When it was made, UTC.
      type: str
    stopped:
      description: Whether the dump stopped the container.
      type: bool
    nics:
      description: The network devices as they were.
      type: list
      elements: dict
    options:
      description: CRIU's options as they were used.
      type: dict
    versions:
      description: Of kernel, CRIU, LXC and this collection.
      type: dict
    size:
      description: Bytes of all files.
      type: int
    files:
      description:
        - Size and SHA-256 of every file. A file of more than 16 MiB has C(sha256_pieces) instead, the SHA-256 of the SHA-256s of
          its pieces of 16 MiB each.
      type: dict
    open_files:
      description:
        - The files that the processes had open or mapped, each with size, mode, the time of its last change in ns, device and
          inode; V(-1) for what may be another at a restore.
      type: dict
command:
  description: The command line of CRIU that ran, or in check mode would. C(WORKDIR) stands for a directory that is not made yet.
  returned: always
  type: list
  elements: str
stats:
  description:
    - CRIU's own statistics. Times are in microseconds.
    - After a dump C(freezing_time), C(frozen_time), C(memdump_time), C(memwrite_time), C(pages_scanned), C(pages_written) and
      others; after a restore C(forking_time), C(restore_time), C(pages_restored) and others.
  returned: always
  type: dict
  sample:
    freezing_time: 412
    frozen_time: 71022
init_pid:
  description:
    - Process id of the container's init on the host, V(0) where it does not run; before a restore in check mode the present one.
    - On failure the one that it has, V(-1) where RV(container_state=unknown).
  returned: always
  type: int
log_path:
  description: CRIU's log, or an empty string where CRIU did not run.
  returned: always
  type: str
log_errors:
  description: On failure why the hook refused, if it did, and the lines of CRIU's and LXC's logs that say what went wrong.
  returned: always
  type: list
  elements: str
proof:
  description: What the trial restore of O(prove) has shown; empty where none was made.
  returned: always
  type: dict
  contains:
    verdict:
      description: >-
        V(proven) if all was restored; V(partial) if the trial ended for a reason that a restore does not have; V(skipped) if none
        could be made; V(refused) if the image cannot be restored, on failure.
      type: str
    seconds:
      description: How long it took, from the moment at which the image was complete.
      type: float
    why:
      description: Why it is not proven, in a sentence.
      type: str
  sample:
    verdict: proven
    seconds: 0.24
    why: ""
lost:
  description:
    - After a restore what the container had before the dump, and does not have any more or has with another value, in a
      sentence each. It is a warning as well.
    - Processes and threads are named by their ids inside the container.
    - Empty where nothing is lost, where the container was not restored now, and for a checkpoint of a version of this collection
      that recorded nothing to compare with.
  returned: always
  type: list
  elements: str
  sample:
    - "process 17 (worker): timer slack was 123456, and is 50000."
    - "network: route 10.89.0.0/16 via 10.0.3.1 dev eth0 table 123 is gone."
findings:
  description:
    - What the preflight found before a dump, the worst first; in check mode as well, and on failure too.
    - What may still go wrong after the dump is a warning besides.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: A word for this kind of finding, see M(stasis.lxc.lxc_checkpoint_preflight).
      type: str
    severity:
      description: V(blocks), V(may fail), V(loses) or V(note). What V(loses) is dumped and restored, and does not come back
        as it was.
      type: str
    subject:
      description: The process, file or setting concerned.
      type: str
    what:
      description: What is found, in one line.
      type: str
    remedy:
      description: What to do about it, in one line.
      type: str
    grave:
      description: Whether protection or correctness is lost, so that a checkpoint is refused as by what V(blocks).
      type: bool
diagnoses:
  description:
    - On failure of CRIU or LXC the causes that their logs name, the likeliest first. The first is in RV(ignore:msg).
    - M(stasis.lxc.criu_log_info) gives the same for a log from anywhere.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: A word for this cause, which stays the same.
      type: str
      sample: netlink_unread
    class:
      description: V(transient), V(configuration), V(environment) or V(impossible).
      type: str
    cause:
      description: What went wrong, in one line.
      type: str
    evidence:
      description: The line of the log.
      type: str
    remedy:
      description: What to do about it, in one line.
      type: str
    reference:
      description: Where to read on.
      type: str
retried:
  description: The tries that failed before the last one, which succeeded or whose failure is told.
  returned: always
  type: list
  elements: dict
  contains:
    id:
      description: As RV(diagnoses[].id), of its first cause.
      type: str
    cause:
      description: As RV(diagnoses[].cause).
      type: str
    evidence:
      description: As RV(diagnoses[].evidence).
      type: str
    log_path:
      description: CRIU's log of it.
      type: str
    seconds:
      description: How long it took.
      type: float
    waited:
      description: Seconds until the next one.
      type: float
rc:
  description: On failure the exit code of CRIU or lxc-checkpoint.
  returned: always
  type: int
stale_reasons:
  description: Why the checkpoint is not fresh, a sentence each. Empty if it is, or if there is none. On failure as it is now.
  returned: always
  type: list
  elements: str
warnings:
  description: >-
    What is not as it should be although the task did its work, such as a limit of a cgroup that could not be set again;
    and on failure what the hook could not do without being the cause.
  returned: where there is something to say
  type: list
  elements: str
notes:
  description: What is good to know about the restored container.
  returned: always
  type: list
  elements: str
recovered:
  description: >-
    What an interrupted earlier run had left and was put right, or in check mode would be; and after a failure also
    what this run put right itself. A sentence each: staging directories, a detached network, firewall rules, TCP sockets
    in repair mode, cgroups, half restored tasks and files of a CRIU that was killed.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stasis.lxc.plugins.module_utils import _kept_code


def main() -> None:
    """Hand the parameters over, and the result back."""
    kept = _kept_code.use()
    # Here, so that their compiled code is found.
    from ansible_collections.stasis.lxc.plugins.module_utils import (
        _answer,
        _argspec,
        _checkpoint,
        _errors,
        _result,
        _runner,
    )

    module = AnsibleModule(argument_spec=_argspec.argument_spec(), supports_check_mode=True)
    try:
        result = _checkpoint.run(module.params, _runner.SystemRunner(), check_mode=module.check_mode)
    except _errors.StasisError as exc:
        _answer.refuse(module, exc, _result.Result().as_dict(), exc.data.pop("warnings", []))
    # A refusal writes nothing.
    if not module.check_mode:
        kept.keep()
    _answer.give(module, result.as_dict(), result.warnings)


if __name__ == "__main__":
    main()
