#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves kernel/core with Frama-C's WP and the absence of undefined behaviour with RTE.

    run.py [--file NAME] [--source DIRECTORY] [--timeout SECONDS] [--long]

JOBS lists what is proved; the files in LONG only with --long or by name. A goal that no prover proves is an error unless it stands in
tests/proof/expected-unproved. The last line printed is "PASS proof ..." or
"FAIL proof ...". --source takes kernel/core from another tree (the planted mutants).
"""
import argparse
import os
import re
import subprocess
import sys

BUILD = "build/proof"
PROVERS = "z3,cvc4"
CPP = ("-Itests/proof -I{build}/{bits} -Ibuild/gen -D'_Alignas(x)=' "
       "-D'_Static_assert(...)=extern int static_assert_unused' {contracts}")
CONTRACTS = "-I{source}/kernel/core -include tests/proof/{header}.h"

# The C functions that compute what bits.py defines; they are proved against the
# definitions, and with every conditional as a goal of its own.
BITS = "pte_leaf,pte_table,pte_frame,pte_sel,pte_rights,pte_at,sel_bits,ept_leaf,ept_sel_bits,level_frames"
FLIP = "rights_flip,run_varies,entry_unlike,rights_lost"
PROTECT = ("run_flip,run_protect,protect_range,protect_list,rights_valid,protect_env,"
           "sys_page_protect,sys_page_protect_list")
PAGE = ("va_user,table_find,table_next,leaf_find,leaf_any,pend_add,pend_flush,bind_check,"
        "cap_covers,bind_one,env_find")
# Of these neither what they write is proved, nor, `ready`, that the counts that go are there.
PAGE_REST = ("entry_release,unbind_range,unbind_list,table_make,table_unmake,sys_page_unbind,"
             "sys_page_unbind_list,sys_page_bind_list,sys_pt_make,sys_pt_unmake")
READY = "-wp-prop=-ready,-@assigns"
CAP = ("cur_env,cap_find,cap_read,env_find_cap,thread_find,cap_has_children,link_between,"
       "cap_insert,cap_remove,cap_narrow,ref_find,derive_locked,derive,sys_cap_derive,"
       "sys_cap_copy,sys_cap_info")
SWEEP = "sel_dying,leaf_sweep,drain_next,entry_take,drain_step,sweep_step,sweep_all_step"
SWEEP_WALK = "doomed_step,table_detach,entry_sweep,sweep_hop,commit_entry"
BIND = ("cur_env,name_find,count_add,slot_clear,slot_bind,slots_forget,slots_forget_cap,"
        "irq_clear,irq_bind,irq_find,irqs_forget,irqs_forget_cap,port_check,sys_slot_bind,"
        "sys_slot_unbind,sys_irq_bind,sys_irq_unbind,sys_irq_ack,sys_port_in,sys_port_out")
COMMIT = "object_commit,core_commit"
PORTS = ("ports_kept,ports_take,ports_forget_cap,ports_pass,ports_call,sys_port_pass,"
         "sys_port_unpass")
# Of these only that no behaviour is undefined, and what their contracts say beside it, as long
# as sched_ok or core_ok (tests/proof/threads.h) holds when a function begins, when one that it
# calls is back, and when a loop goes on; `listed` is what the derivation list's order gives.
NUMBERS = "-wp-prop=-ok,-still,-ready,-listed,-@assigns"
EVENT = ("pending,wait_end,event_check,raise,event_raise,upcall_enter,event_deliver,"
         "sys_event_signal,sys_event_wait,sys_upcall_done,thread_result,cap_quick")
TIMER = ("at,heap_link,children_adopt,parent_link,heap_rise,heap_settle,heap_insert,heap_remove,"
         "heap_update,timeout_set,timers_forget,timers_first,timeout_passed,timers_expire,"
         "sys_timer_set")
SCHED = ("at,chain_base,chain_end,ring_add,ring_remove,ring_turn,slot_at,slot_thread,slot_owner,"
         "urgent_end,slot_begin,slice_base,next_event,choose,sched_choose,sched_settle,"
         "sched_begin,timer_interrupt,slot_next,credit_take,sched_wake,sched_block,sched_forget,"
         "slice_give,sys_yield,yield_to,sys_yield_to")
THREAD = ("thread_init,request_push,request_pop,thread_request,requests_cancel,thread_forget,"
          "thread_resume,request_serve,requests_serve,thread_stopped,thread_halt,thread_detach,"
          "thread_is_local,thread_is_still,revoker_set,thread_set,sys_thread_set,regs_begin,"
          "thread_start,sys_thread_start,sys_thread_stop,regs_copy,sys_thread_read,"
          "sys_thread_write,sys_thread_info")
IPC = ("at,words_copy,words_send,words_clear,wait_leave,item_send,queue_append,queue_remove,"
       "call_enter,call_check,call_make,sys_call,sys_call_x,call_end,call_withdraw,call_fail,"
       "callers_fail,reply_send,reply_next,reply_and_wait,sys_reply_wait,sys_reply_wait_x,"
       "reply_give,sys_reply_give,fault_stop,fault_call,fault_take")
ENV = ("env_extra,env_init,object_untype,env_frame_type,thread_frame_type,object_type,"
       "source_find,object_insert,env_make,sys_env_make,env_free,sys_env_revoker,thread_make,"
       "sys_thread_make,thread_free,handle_make,sys_gate_make,sys_event_make")
REVOKE = ("vector_record,sel_of,is_range,bindings_drop,reap_enqueue,reap_dequeue,env_condemn,"
          "leaf_remove,leaf_destroy,cap_mark,hint_valid,mark_forward,record_taken,revoke_step,"
          "reap_kill,reap_delete,owner_remove,reap_one,reap_step,children_ask,children_names,"
          "youngest_take,revoke_keep,sys_cap_revoke,is_own,delete_locked,sys_cap_delete")
# Not those that look at a page or a group through a pointer of another type.
VM_CHECK = ("xcr0_allowed,cr_check,pdpte_check,dr_check,segment_allowed,segs_check,pat_allowed,"
            "msr_check,event_check_one,inject_check,fpu_check")
VM = ("vm_init,vm_forget,vm_set,flags_now,inject_set,cr_loaded,exit_fill,vm_words,window_close,"
      "complete,vm_reply,hypercall,vm_exit,window_open,entry_reason,vm_enter_check")
THREADS = ("event", "timer", "sched", "thread", "ipc", "env", "revoke", "vm", "vm_check")
JOBS = [  # file, definitions of bits.py open or closed, options
    ("fields", "open", []),
    ("words", "open", ["-wp-split", "-wp-fct", "word_typed,va_index,pte_format"]),
    ("words", "closed", ["-wp-skip-fct", "word_typed,va_index,pte_format,env_find"]),
    ("page", "open", ["-wp-split", "-wp-fct", BITS]),
    ("page", "closed", ["-wp-fct", PAGE]),
    ("page", "closed", ["-wp-fct", "bind_range,bind_list", "-wp-prop", "@assert"]),
    ("page", "closed", [READY, "-wp-fct", PAGE_REST]),
    ("protect", "open", ["-wp-split", "-wp-fct", FLIP]),
    ("protect", "closed", ["-wp-fct", PROTECT]),
    ("cap", "closed", ["-wp-prop=-listed", "-wp-fct", CAP]),
    ("sweep", "open", ["-wp-split", "-wp-fct", "va_after"]),
    ("sweep", "closed", ["-wp-fct", SWEEP]),
    ("sweep", "closed", ["-wp-split", "-wp-fct", SWEEP_WALK]),
    ("sweep", "closed", ["-wp-prop=-ok,-ready,-@assigns", "-wp-fct", COMMIT]),
    ("bind", "closed", ["-wp-fct", BIND]),
    ("bind", "closed", [NUMBERS, "-wp-fct", PORTS]),
    ("event", "closed", [NUMBERS, "-wp-fct", EVENT]),
    ("timer", "closed", [NUMBERS, "-wp-fct", TIMER]),
    ("sched", "closed", [NUMBERS, "-wp-fct", SCHED]),
    ("thread", "closed", [NUMBERS, "-wp-fct", THREAD]),
    ("ipc", "closed", [NUMBERS, "-wp-fct", IPC]),
    ("env", "closed", [NUMBERS, "-wp-fct", ENV]),
    ("revoke", "closed", [NUMBERS, "-wp-fct", REVOKE]),
    ("vm", "closed", [NUMBERS, "-wp-fct", VM]),
    ("vm_check", "closed", [NUMBERS, "-wp-fct", VM_CHECK]),
]
LONG = ("thread", "ipc", "env", "revoke", "vm", "vm_check")
GOAL = re.compile(r"^\[wp\] \[Failed\] Goal (\S+)", re.MULTILINE)
TOTAL = re.compile(r"^\[wp\] Proved goals:\s+(\d+) / (\d+)", re.MULTILINE)


def environment():
    """Why3's configuration is kept in build/, not in the user's home."""
    home = os.path.abspath(os.path.join(BUILD, "home"))
    os.makedirs(home, exist_ok=True)
    env = dict(os.environ, HOME=home)
    if not os.path.exists(os.path.join(home, ".why3.conf")):
        subprocess.run(["why3", "config", "detect"], env=env, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return env


def prove(job, source, timeout, env):
    """Proves one job: number of goals proved, of goals, names of the others; or None."""
    name, bits, options = job
    path = f"tests/proof/{name}.c" if name == "fields" else f"{source}/kernel/core/{name}.c"
    header = "threads" if name in THREADS else "contracts"
    contracts = "" if name == "fields" else CONTRACTS.format(source=source, header=header)
    command = ["frama-c", "-machdep", "gcc_x86_64", "-c11",
               "-cpp-extra-args=" + CPP.format(build=BUILD, bits=bits, contracts=contracts),
               "-wp", "-wp-rte", "-wp-model", "Typed", "-wp-prover", PROVERS,
               "-wp-timeout", str(timeout), "-wp-par", str(os.cpu_count() or 1)]
    result = subprocess.run(command + options + [path], env=env, text=True, check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    total = TOTAL.search(result.stdout)
    if total is None or re.search(r"\[kernel\] (User Error|Frama-C aborted)", result.stdout):
        print("\n".join(result.stdout.splitlines()[-15:]))
        return None
    return int(total.group(1)), int(total.group(2)), GOAL.findall(result.stdout)


def expected_unproved():
    with open("tests/proof/expected-unproved", encoding="ascii") as lines:
        return {tuple(line.split()[:2]) for line in lines
                if line.strip() and not line.startswith("#")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--file")
    parser.add_argument("--source", default=".")
    parser.add_argument("--timeout", type=int, default=20)
    parser.add_argument("--long", action="store_true")
    arguments = parser.parse_args()
    if subprocess.run([sys.executable, "tests/proof/bits.py", BUILD], check=False).returncode:
        print("FAIL proof of the bit-level facts")
        return 1
    env = environment()
    expected = expected_unproved()
    proved = goals = 0
    surprises = []
    for job in JOBS:
        if arguments.file not in (None, job[0]) or \
                arguments.file is None and job[0] in LONG and not arguments.long:
            continue
        result = prove(job, arguments.source, arguments.timeout, env)
        if result is None:
            print(f"FAIL proof of {job[0]}.c: Frama-C does not accept it")
            return 1
        print(f"{job[0]}.c ({job[1]}): {result[0]} of {result[1]} goals proved", flush=True)
        proved += result[0]
        goals += result[1]
        for goal in result[2]:
            known = (job[0], goal) in expected
            print(f"  not proved{', as expected' if known else ''}: {job[0]} {goal}")
            if not known:
                surprises.append(goal)
    if surprises:
        print(f"FAIL proof: {len(surprises)} goals are not proved, {proved} of {goals} are")
        return 1
    print(f"PASS proof {proved} goals of {goals}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
