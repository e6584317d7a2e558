/* SPDX-License-Identifier: MIT
 *
 * A small static program: what fork_exec_wait and its kin start. */
int main(void) { return 0; }
