#!/usr/bin/python

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxc_checkpointable
short_description: Prepare a container with systemd so that it can be checkpointed
version_added: 0.1.0
description:
  - Finds in the units of systemd in a container the settings that CRIU cannot dump, and takes back those and no others, for
    each unit by a drop-in of its own that says why. Nothing else is changed, least of all the configuration of LXC.
  - Only units that would be started are looked at, and only settings that have an effect in this container on this host.
  - What gives a service just a mount namespace of its own, as C(PrivateTmp=) or C(ProtectSystem=), can be dumped and stays.
  - The root file system is taken for hostile. No link in it leads out of it.
  - The role P(stasis.lxc.checkpointable#role) uses this module, and looks at the running container as well.
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
  lxc_path:
    description:
      - Where LXC keeps its containers, as C(lxc-start -P).
    type: str
    default: /var/lib/lxc
  state:
    description:
      - V(present) makes the drop-ins that are needed and removes those of this module that no longer are.
      - V(absent) removes every one that this module made, with the directories that it made for them.
    type: str
    choices: [present, absent]
    default: present
  relax:
    description:
      - What may be relaxed. What is needed and is not in this list is named in RV(blocked) and left as it is.
      - Each entry is V(all), one of the relaxations V(ip-filter), V(network-filter), V(device-filter), V(clock),
        V(networkd-monitor), V(hostname), V(users), V(ipc), V(pids), V(control-groups), V(memory-pressure),
        V(credentials), V(imported-credentials), V(console), V(terminals), a unit as V(systemd-logind.service), or both as V(systemd-logind.service/hostname).
      - Units made from a template have the name of the template, as V(getty@.service).
    type: list
    elements: str
    default: [all]
  restart:
    description:
      - Whether to have systemd in the running container read its units again, restart the services in RV(restart_needed) and
        unmount RV(unmount_needed).
      - Where that fails the task fails, and the files and the services are as before.
      - With V(false) that is left to you; until then the services run as before.
    type: bool
    default: false
  restart_container:
    description:
      - Whether to stop the container and start it again where RV(stop_needed) is true. Its processes end.
      - systemd keeps the BPF programs of the settings that it had until it ends, also after O(restart).
    type: bool
    default: false
  timeout:
    description:
      - Seconds that O(restart) may take, and each of the stop and the start of O(restart_container).
      - From 1 to 604800, a week.
    type: int
    default: 120
requirements:
  - LXC 4.0 or newer
notes:
  - The root file system of a stopped container has to be a directory. One of another kind, as an overlay or a loop-mounted
    file, is prepared while the container runs.
  - A drop-in is a change of the root file system. A checkpoint that was made before it is stale afterwards.
seealso:
  - module: stasis.lxc.lxc_checkpoint_preflight
  - module: stasis.lxc.lxc_checkpoint
"""

EXAMPLES = r"""
- name: See what would be relaxed, and why
  stasis.lxc.lxc_checkpointable:
    name: web1
  check_mode: true
  diff: true
  register: needed

- name: Prepare a running container, and let it take effect
  stasis.lxc.lxc_checkpointable:
    name: web1
    restart: true

- name: Keep the filter of device nodes of every unit, whatever that blocks
  stasis.lxc.lxc_checkpointable:
    name: web1
    relax: [hostname, ip-filter, clock, console]
  register: prepared

- name: Say what is left in the way
  ansible.builtin.debug:
    msg: "{{ prepared.blocked }}"

- name: Take everything back
  stasis.lxc.lxc_checkpointable:
    name: web1
    state: absent
"""

RETURN = r"""
container_state:
  description: V(running) or V(stopped).
  returned: success
  type: str
rootfs:
  description: Where the root file system was read and written.
  returned: success
  type: str
  sample: /var/lib/lxc/web1/rootfs
relaxations:
  description: What is relaxed when the module is done, each for one unit.
  returned: success
  type: list
  elements: dict
  contains:
    unit:
      description: The unit.
      type: str
      sample: systemd-logind.service
    relaxation:
      description: A word for this kind of relaxation, as in O(relax).
      type: str
      sample: hostname
    hardening:
      description: Whether it is security hardening that is lost.
      type: bool
    directives:
      description: The settings that cannot be dumped, with the files that they are in.
      type: list
      elements: str
      sample: ["ProtectHostname=yes (usr/lib/systemd/system/systemd-logind.service)"]
    settings:
      description: What is set instead.
      type: list
      elements: str
      sample: ["ProtectHostname=no"]
    lost:
      description: What the unit loses.
      type: str
    kept:
      description: What stays in its place.
      type: str
    evidence:
      description: What CRIU says where this is not relaxed.
      type: str
      sample: Can't dump nested uts namespace for N
    reference:
      description: Where more about the setting is said.
      type: str
    path:
      description: The drop-in, from the root of the container.
      type: str
      sample: /etc/systemd/system/systemd-logind.service.d/zz-stasis-checkpointable.conf
blocked:
  description: As RV(relaxations), what stays in the way of a checkpoint, each with RV(ignore:problem), the reason, in place of a path.
  returned: success
  type: list
  elements: dict
brief:
  description: Units that block while they run, which they do for a moment only, so that nothing is changed for them.
  returned: success
  type: list
  elements: str
  sample: [systemd-hostnamed.service]
files:
  description: The drop-ins that are there when the module is done.
  returned: success
  type: list
  elements: str
removed:
  description: Those that it removed.
  returned: success
  type: list
  elements: str
reload_needed:
  description: Whether systemd in the running container has to read its units again before this takes effect.
  returned: success
  type: bool
restart_needed:
  description: The services that run and have to be restarted after that.
  returned: success
  type: list
  elements: str
unmount_needed:
  description: Directories of credentials that are mounted, and have to be unmounted, for units that are to have none any more.
  returned: success
  type: list
  elements: str
  sample: [/run/credentials/systemd-sysctl.service]
restarted:
  description: The services that were restarted.
  returned: success
  type: list
  elements: str
stop_needed:
  description:
    - Whether systemd in the running container still holds BPF programs of its old settings, which nothing but a stop and a
      start of the container frees. It cannot be checkpointed until then.
  returned: success
  type: bool
container_restarted:
  description: Whether the container was stopped and started again, or in check mode would be.
  returned: success
  type: bool
notes:
  description: What else is to be known.
  returned: success
  type: list
  elements: str
summary:
  description: All of it in lines for people.
  returned: success
  type: list
  elements: str
diff:
  description: The text of each drop-in that changes, before and after.
  returned: success
  type: list
  elements: dict
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stasis.lxc.plugins.module_utils import _answer, _checkpointable, _errors, _runner


def main() -> None:
    """Hand the parameters over, and the result back."""
    module = AnsibleModule(argument_spec=_checkpointable.argument_spec(), supports_check_mode=True)
    try:
        report = _checkpointable.run(module.params, _runner.SystemRunner(), check_mode=module.check_mode)
    except _errors.StasisError as exc:
        _answer.refuse(module, exc)
    _answer.give(module, asdict(report), texts=("diff",))


if __name__ == "__main__":
    main()
