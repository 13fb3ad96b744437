#!/usr/bin/python

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: criu_log_info
short_description: Tell from a log of CRIU or LXC why a checkpoint or restore failed
version_added: 0.1.0
description:
  - Reads a C(dump.log), C(restore.log) or log of C(lxc-checkpoint), from this collection or from anywhere, and names the
    likeliest causes, each with the line that shows it and with what to do about it.
  - The cause is seldom in the last line of such a log, and lines that CRIU calls errors stand in logs of runs that went well.
    Lines that only follow from others rank below them; those that mean nothing are left out.
  - Nothing is returned of the log but lines that report errors, cut to 500 characters.
author:
  - The stasis.lxc authors (@stasis-lxc)
extends_documentation_fragment:
  - stasis.lxc.attributes
  - stasis.lxc.attributes.info_module
options:
  path:
    description:
      - A log, or a directory with logs, such as that of an image. An absolute path.
      - In a directory C(restore.log), C(dump.log), C(pre-dump.log), C(criu.err), C(lxc.log) and C(lxc.err) are read, those
        that are there. Symbolic links among them are refused.
      - Of a log of more than 32 MiB the first and the last 16 MiB are read.
    type: str
    required: true
notes:
  - No container is touched, and neither CRIU nor LXC need be installed.
seealso:
  - module: stasis.lxc.lxc_checkpoint
  - module: stasis.lxc.criu_info
"""

EXAMPLES = r"""
- name: Find out why a dump failed
  stasis.lxc.criu_log_info:
    path: /var/lib/stasis/web1/dump.log
  register: log

- name: Show the likeliest cause and what to do about it
  ansible.builtin.debug:
    msg: "{{ log.diagnoses[0].cause }} {{ log.diagnoses[0].remedy }}"
  when: log.diagnoses

- name: Look at all logs that lxc-checkpoint left in its directory
  stasis.lxc.criu_log_info:
    path: /tmp/checkpoint
"""

RETURN = r"""
logs:
  description: One entry for each log that was read.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the file.
      type: str
      sample: dump.log
    outcome:
      description:
        - V(succeeded) if CRIU says that it finished, V(failed) if it says that it failed or reports an error, else V(unknown).
      type: str
      sample: failed
    size:
      description: Bytes of the file.
      type: int
      sample: 41811
    truncated:
      description: Whether the middle of the log was not read, because it is so long.
      type: bool
      sample: false
diagnoses:
  description:
    - The causes, the likeliest first, at most ten.
    - Empty if the run went well, or if no rule knows any of the lines; then RV(errors) says what there is.
  returned: success
  type: list
  elements: dict
  contains:
    id:
      description: Name of the cause, for conditions in playbooks.
      type: str
      sample: tcp_connected
    class:
      description:
        - V(transient) if trying again may help, V(configuration) if another option, service or file does, V(environment) if
          the host, its kernel or its programs must be changed, V(impossible) if CRIU cannot do it.
      type: str
      sample: configuration
    cause:
      description: What is wrong.
      type: str
      sample: The container has established TCP connections, and CRIU was not told what to do with them.
    evidence:
      description: The line of the log that says so, literally but for its length and control characters.
      type: str
      sample: "(00.087048) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option."
    remedy:
      description: What to do about it.
      type: str
      sample: Set tcp_established to true to keep them, or tcp_close to true to have them closed.
    reference:
      description: An issue upstream, or the file and function that write the line.
      type: str
      sample: criu/sk-inet.c, can_dump_inet_sk()
    log:
      description: Which of RV(logs) the line is from.
      type: str
      sample: dump.log
errors:
  description: The lines that report errors, in their order, without harmless ones and those that only follow; at most 20.
  returned: success
  type: list
  elements: str
  sample:
    - "(00.087048) Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option."
transient:
  description: Whether trying again may help, because every cause is of the class V(transient).
  returned: success
  type: bool
  sample: false
"""

from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stasis.lxc.plugins.module_utils import _answer, _criu_log_info, _errors


def main() -> None:
    """Hand the parameters over, and the result back."""
    module = AnsibleModule(argument_spec={"path": {"type": "str", "required": True}}, supports_check_mode=True)
    try:
        info = _criu_log_info.gather(module.params["path"])
    except _errors.StasisError as exc:
        _answer.refuse(module, exc)
    _answer.give(module, {"changed": False, **asdict(info)})


if __name__ == "__main__":
    main()
