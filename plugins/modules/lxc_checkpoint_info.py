#!/usr/bin/python

# Copyright (c) 2026, The stasis.lxc authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: lxc_checkpoint_info
short_description: List checkpoints of LXC containers
version_added: 0.1.0
description:
  - Reads the manifests and sizes of the checkpoints at or below a path, sealed or not, and on request compares every file
    with its hash.
author:
  - The stasis.lxc authors (@stasis-lxc)
extends_documentation_fragment:
  - stasis.lxc.attributes
  - stasis.lxc.attributes.info_module
options:
  path:
    description:
      - A checkpoint, or a directory with checkpoints in it at any depth. An absolute path.
      - Symbolic links and other file systems below it are not looked into.
    type: str
    required: true
  verify:
    description:
      - Whether every file of every sealed checkpoint is read and compared with its SHA-256.
    type: bool
    default: false
  verify_key:
    description:
      - A key that the manifests must be signed with, as in O(stasis.lxc.lxc_checkpoint#module:verify_key).
      - With O(verify=false) the files are not compared with the hashes that the signature covers.
    type: path
seealso:
  - module: stasis.lxc.lxc_checkpoint
"""

EXAMPLES = r"""
- name: Read what checkpoints there are, and whether they are whole
  stasis.lxc.lxc_checkpoint_info:
    path: /var/lib/stasis
    verify: true
  register: stasis

- name: Show those that are damaged
  ansible.builtin.debug:
    msg: "{{ item.path }}: {{ item.faults | join(' ') }}"
  loop: "{{ stasis.checkpoints | rejectattr('state', 'equalto', 'sealed') }}"
"""

RETURN = r"""
checkpoints:
  description: One entry for each checkpoint, ordered by path.
  returned: success
  type: list
  elements: dict
  contains:
    path:
      description: Its directory.
      type: str
    state:
      description:
        - V(sealed), V(staging) or V(committed) where a run was interrupted, V(damaged), or V(untrusted) where it is not signed
          with O(verify_key).
        - V(damaged) also where the directory cannot be read or its records cannot be understood; the other checkpoints are
          listed all the same.
      type: str
    container:
      description: Name of the container.
      type: str
    lxc_path:
      description: Where LXC keeps it.
      type: str
    size:
      description: Bytes of all its files.
      type: int
    restored:
      description: Who was resumed from it, with RV(ignore:boot_id), RV(ignore:init_pid) and RV(ignore:init_start).
      type: list
      elements: dict
    verified:
      description: Whether every file was compared with its hash and is right.
      type: bool
    signed:
      description:
        - Whether its manifest is signed with O(verify_key); V(false) also where no key was given. Only together with
          RV(checkpoints[].verified) does it speak for the files.
      type: bool
    made_here:
      description:
        - Whether its manifest was made on this host, by a key that never leaves the host. Only together with
          RV(checkpoints[].verified) does it speak for the files. See O(stasis.lxc.lxc_checkpoint#module:allow_unsigned).
      type: bool
    faults:
      description: Where it does not match its manifest.
      type: list
      elements: str
    manifest:
      description: The manifest, see RV(stasis.lxc.lxc_checkpoint#module:checkpoint). Empty if it is not sealed.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.stasis.lxc.plugins.module_utils import _answer, _errors, _listing, _restorable, _runner


def main() -> None:
    """Hand the parameters over, and the result back."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "verify": {"type": "bool", "default": False},
            # A path, no secret.
            "verify_key": {"type": "path", "no_log": False},
        },
        supports_check_mode=True,
    )
    try:
        checkpoints = _listing.listing(
            module.params["path"],
            verify=module.params["verify"],
            trust=_restorable.trust(module.params["verify_key"] or "", _runner.SystemRunner()),
        )
    except _errors.StasisError as exc:
        _answer.refuse(module, exc)
    _answer.give(module, {"changed": False, "checkpoints": checkpoints})


if __name__ == "__main__":
    main()
