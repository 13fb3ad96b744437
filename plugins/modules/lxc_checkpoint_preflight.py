#!/usr/bin/python

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxc_checkpoint_preflight
short_description: Tell what would keep running LXC containers from being checkpointed
version_added: 0.1.0
description:
  - Looks at running containers for what CRIU cannot dump or would lose, and says for each thing which process, file or
    setting it is and what to do about it.
  - It reads C(/proc), the cgroups and the configuration of the containers. No process is stopped, traced or entered, and
    nothing is written.
  - The host's own C(ss), C(ip) and C(nft) list what is in the network namespaces of the container. The firewall rules that they
    list are loaded once into a new network namespace that lasts only for that, since a restore would load them.
  - M(stasis.lxc.lxc_checkpoint) makes the same checks before it freezes a container.
author:
  - The stasis.lxc authors (@stasis-lxc)
extends_documentation_fragment:
  - stasis.lxc.attributes
  - stasis.lxc.attributes.info_module
options:
  name:
    description:
      - Names of the containers to look at.
      - By default every container below O(lxc_path) that runs.
    type: list
    elements: str
    aliases: [container]
  lxc_path:
    description:
      - Where LXC keeps its containers, as C(lxc-start -P).
    type: str
    default: /var/lib/lxc
  directory:
    description:
      - Where the checkpoint is going to be, an absolute path that need not be there yet. Its file system must have room for
        the memory of the container.
      - If O(name) does not name exactly one container, what is above the checkpoints, of which each is taken to have the name
        of its container.
      - By default the place is not looked at.
    type: str
    aliases: [checkpoint_dir]
  stop:
    description:
      - Whether the dump is going to stop the container. Some things are lost only then.
    type: bool
    default: false
  autostart:
    description:
      - What the dump is going to do with O(stop=true) about a container that LXC or systemd starts by itself, see
        O(stasis.lxc.lxc_checkpoint#module:autostart).
    type: str
    choices: [refuse, inhibit, ignore]
    default: refuse
  ghost_limit:
    description:
      - The largest deleted but open file, in bytes, that is going to be copied into the checkpoint. CRIU's own limit is 1 MiB.
      - From 0 to 4294967295.
    type: int
  tcp_established:
    description:
      - Whether established TCP connections are going to be kept.
    type: bool
    default: true
  skip_in_flight:
    description:
      - Whether connections that are not yet accepted are going to be left out.
    type: bool
    default: true
  file_locks:
    description:
      - Whether file locks are going to be kept.
    type: bool
    default: true
  link_remap:
    description:
      - Whether deleted files that still have another name are going to be given a temporary one.
    type: bool
    default: true
  external_mounts:
    description:
      - Bind mounts that the checkpoint is going to be told of, see O(stasis.lxc.lxc_checkpoint#module:external_mounts).
    type: list
    elements: dict
    default: []
    suboptions:
      target:
        description: Where it is inside the container.
        type: str
        required: true
      source:
        description: What it is on the host.
        type: path
        required: true
  criu_args:
    description:
      - Further arguments that CRIU is going to get. Of these C(--enable-fs), C(--allow-uprobes), C(--shell-job) and
        C(--ext-unix-sk) change what is found.
    type: list
    elements: str
    default: []
  criu_path:
    description:
      - The CRIU to use instead of the one that the role installed.
    type: path
requirements:
  - LXC 4.0 or newer
  - iproute2
notes:
  - Containers change while they run. What is not found now may be there when the dump begins, and the other way round.
  - A container that can be dumped is not sure to be restored. Try that once with a copy of every kind of container.
seealso:
  - module: stasis.lxc.lxc_checkpoint
  - module: stasis.lxc.criu_info
"""

EXAMPLES = r"""
- name: Look at every running container, and change nothing
  stasis.lxc.lxc_checkpoint_preflight:
    stop: true
    directory: /var/lib/stasis
  check_mode: true
  register: preflight

- name: Show one table for all hosts, as the playbook stasis.lxc.preflight does
  ansible.builtin.debug:
    msg: "{{ ansible_play_hosts | zip(answers) | stasis.lxc.preflight_table }}"
  run_once: true
  vars:
    answers: "{{ ansible_play_hosts | map('extract', hostvars, 'preflight') }}"

- name: Look at one container
  stasis.lxc.lxc_checkpoint_preflight:
    name: web1
  register: preflight

- name: Stop here if it cannot be checkpointed
  ansible.builtin.assert:
    that: preflight.verdict != 'blocked'
    fail_msg: "{{ preflight.summary }}"

- name: Find every program that uses io_uring or BPF
  ansible.builtin.debug:
    msg: "{{ preflight.findings | selectattr('id', 'equalto', 'descriptor') | map(attribute='subject') }}"
"""

RETURN = r"""
verdict:
  description:
    - V(blocked) if something makes a checkpoint of one of the containers impossible or loses protection or correctness,
      V(risky) if something may make it fail, and V(ready) otherwise.
  returned: success
  type: str
  sample: ready
findings:
  description: Everything that was found, for each container the worst first.
  returned: success
  type: list
  elements: dict
  contains:
    container:
      description: Name of the container. Empty for what concerns the host if no container was looked at.
      type: str
    id:
      description: A word for this kind of finding, which stays the same.
      type: str
      sample: descriptor
    severity:
      description: V(blocks), V(may fail), V(loses) or V(note). What V(loses) is dumped and restored, and does not come back
        as it was.
      type: str
      sample: blocks
    subject:
      description: The process, file or setting concerned. Process ids are those on the host and inside.
      type: str
      sample: postgres (pid 2817, 41 inside), descriptor 9
    what:
      description: What is found, in one line.
      type: str
      sample: It is open on io_uring, which CRIU cannot dump.
    remedy:
      description: What to do about it, in one line.
      type: str
      sample: Configure the program not to use io_uring, or stop it first.
    grave:
      description: Whether protection or correctness is lost, so that a checkpoint is refused as by what V(blocks).
      type: bool
      sample: false
counts:
  description: How many findings there are of each severity.
  returned: success
  type: dict
  sample:
    blocks: 1
    may fail: 0
    loses: 0
    note: 2
containers:
  description: The same for each container.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
    state:
      description: LXC's word for its state, in lower case.
      type: str
      sample: running
    verdict:
      description: As RV(verdict).
      type: str
    counts:
      description: As RV(counts).
      type: dict
    findings:
      description: As RV(findings), without the name of the container.
      type: list
      elements: dict
summary:
  description: A table to be read by people, line by line.
  returned: success
  type: list
  elements: str
  sample:
    - web1  ready    nothing found
kernel:
  description: Release of the running kernel.
  returned: success
  type: str
criu_path:
  description: The CRIU that would be used. Empty if there is none.
  returned: success
  type: str
criu_version:
  description: Its version. Empty if it does not run.
  returned: success
  type: str
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stasis.lxc.plugins.module_utils import _answer, _errors, _preflight, _runner


def main() -> None:
    """Hand the parameters over, and the result back."""
    module = AnsibleModule(argument_spec=_preflight.argument_spec(), supports_check_mode=True)
    try:
        report = _preflight.run(module.params, _runner.SystemRunner())
    except _errors.StasisError as exc:
        _answer.refuse(module, exc)
    _answer.give(module, {"changed": False, **asdict(report)})


if __name__ == "__main__":
    main()
