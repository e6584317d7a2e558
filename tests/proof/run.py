#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Proves kernel/core with Frama-C's WP and the absence of undefined behaviour with RTE.

    run.py [--file NAME] [--function NAME] [--source DIRECTORY] [--jobs N] [--long] [--first]

JOBS lists what is proved, function by function, each line of progress one of them; the files
in LONG only with --long or by name. A goal that no prover proves is an error unless it stands
in tests/proof/expected-unproved. The last line printed is "PASS proof ..." or
"FAIL proof ...". --source takes kernel/core from another tree (the planted mutants); --first
ends at the first goal that should have been proved.

The provers are limited by their own count of steps, not by time, so that the result does not
depend on how fast or busy the machine is. What they said of a goal is kept in build/proof/cache
and asked again only when the goal has changed.
"""
import argparse
import concurrent.futures
import os
import re
import subprocess
import sys
import tempfile
import time

BUILD = "build/proof"
PROVERS = {"z3": "rlimit=50000000", "cvc4": "--rlimit=300000"}  # steps: about 10 s each
SECONDS = 900  # more than a prover needs for its steps
CPP = ("-Itests/proof -I{build}/{bits} -Ibuild/gen -D'_Alignas(x)=' "
       "-D'_Static_assert(...)=extern int static_assert_unused' {contracts}")
CONTRACTS = "-I{source}/kernel/core -include tests/proof/{header}.h"

FIELDS = "word_type_of,word_bindings_of"
WORDS_BITS = "word_typed,va_index,pte_format"
WORDS = ("env_caps,env_extra,word_bind,word_unbind,block_enter,block_leave,word_type,word_untype,"
         "block_bind,block_unbind,word_bind_large,word_unbind_large")
# The C functions that compute what bits.py defines; they are proved against the
# definitions, and with every conditional as a goal of its own.
BITS = ("pte_leaf,pte_table,pte_frame,pte_sel,pte_rights,pte_at,sel_bits,ept_leaf,ept_sel_bits,level_frames,"
        "lines_mark,line_drop")
FLIP = "rights_flip,run_varies,entry_unlike,rights_lost"
PROTECT = ("run_flip,run_protect,protect_range,rights_valid,protect_env,sys_page_protect,"
           "sys_page_protect_list")
PAGE = ("va_user,table_find,line_next,table_next,leaf_find,leaf_any,pend_add,pend_flush,bind_check,"
        "cap_covers,bind_one,env_find")
# Of these neither what they write is proved, nor, `ready`, that the counts that go are there.
PAGE_REST = ("entry_release,unbind_range,unbind_list,table_make,table_unmake,sys_page_unbind,"
             "sys_page_unbind_list,bind_pages,bind_small,bind_large,sys_page_bind,sys_page_bind_list,"
             "sys_pt_make,sys_pt_unmake")
READY = "-wp-prop=-ready,-lined,-@assigns"
CAP = ("cur_env,cap_find,cap_read,env_find_cap,thread_find,cap_has_children,link_between,"
       "cap_insert,cap_remove,cap_narrow,ref_find,derive_locked,derive,sys_cap_derive,"
       "sys_cap_copy,sys_cap_info")
SWEEP = "sel_dying,leaf_sweep,entry_take,drain_step,sweep_step,sweep_all_step"
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
SCHED = ("at,chain_base,chain_end,ring_add,ring_remove,slot_at,slot_thread,slot_owner,"
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
       "sys_thread_make,thread_free,sys_gate_make,sys_event_make")
REVOKE = ("vector_record,sel_of,is_range,bindings_drop,reap_enqueue,reap_dequeue,env_condemn,"
          "leaf_remove,cap_mark,hint_valid,mark_forward,record_taken,revoke_step,"
          "reap_table,owner_remove,reap_one,reap_step,children_ask,children_names,"
          "youngest_take,revoke_keep,sys_cap_revoke,is_own,delete_locked,sys_cap_delete")
# Not those that look at a page or a group through a pointer of another type.
VM_CHECK = ("cr_check,pdpte_check,dr_check,segment_allowed,segs_check,pat_allowed,"
            "msr_check,event_check_one,inject_check,fpu_check")
VM = ("vm_init,vm_forget,vm_set,flags_now,inject_set,cr_loaded,exit_fill,vm_words,window_close,"
      "complete,vm_reply,hypercall,vm_exit,window_open,entry_reason,vm_enter_check")
THREADS = ("event", "timer", "sched", "thread", "ipc", "env", "revoke", "vm", "vm_check")
LEMMAS = "lemmas"  # instead of functions: what the file states of predicates
JOBS = [  # file, definitions of bits.py open or closed, functions, options
    ("fields", "open", FIELDS, []),
    ("words", "open", WORDS_BITS, ["-wp-split"]),
    ("words", "closed", WORDS, []),
    ("page", "open", BITS, ["-wp-split"]),
    ("page", "closed", PAGE, []),
    ("page", "closed", LEMMAS, ["-wp-prop=@lemma"]),
    ("page", "closed", "bind_range", ["-wp-prop=-@assigns"]),
    ("page", "closed", "bind_list", ["-wp-prop=@assert"]),
    ("page", "closed", PAGE_REST, [READY]),
    ("protect", "open", FLIP, ["-wp-split"]),
    ("protect", "closed", PROTECT, []),
    ("protect", "closed", "protect_list", ["-wp-split"]),
    ("cap", "closed", CAP, ["-wp-prop=-listed"]),
    ("sweep", "open", "va_after", ["-wp-split"]),
    ("sweep", "closed", SWEEP, ["-wp-prop=-lined"]),
    ("sweep", "closed", SWEEP_WALK, ["-wp-split"]),
    ("sweep", "closed", COMMIT, ["-wp-prop=-ok,-ready,-@assigns"]),
    ("bind", "closed", BIND, []),
    ("bind", "closed", PORTS, [NUMBERS]),
    ("event", "closed", EVENT, [NUMBERS]),
    ("timer", "closed", TIMER, [NUMBERS]),
    ("sched", "closed", SCHED, [NUMBERS]),
    ("sched", "closed", "ring_turn", [NUMBERS, "-wp-split"]),
    ("thread", "closed", THREAD, [NUMBERS]),
    ("ipc", "closed", IPC, [NUMBERS]),
    ("env", "closed", ENV, [NUMBERS]),
    ("env", "closed", "handle_make", [NUMBERS, "-wp-split"]),
    ("revoke", "closed", REVOKE, [NUMBERS]),
    ("revoke", "closed", "leaf_destroy", [NUMBERS, "-wp-split"]),
    ("vm", "closed", VM, [NUMBERS]),
    ("vm_check", "closed", VM_CHECK, [NUMBERS]),
]
LONG = ("thread", "ipc", "env", "revoke", "vm", "vm_check")
GOAL = re.compile(r"^\[wp\] \[Failed\] Goal (\S+)", re.MULTILINE)
TOTAL = re.compile(r"^\[wp\] Proved goals:\s+(\d+) / (\d+)", re.MULTILINE)


def environment():
    """Why3's configuration is kept in build/, not in the user's home; there the provers get
    their limits."""
    home = os.path.abspath(os.path.join(BUILD, "home"))
    with tempfile.TemporaryDirectory(dir=BUILD) as fresh:
        subprocess.run(["why3", "config", "detect"], env=dict(os.environ, HOME=fresh), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        config = os.path.join(fresh, ".why3.conf")
        with open(config, encoding="utf-8") as source:
            text = source.read()
        for prover, limit in PROVERS.items():
            text = re.sub(rf'^path = "(\S*/{prover})"$', rf'path = "\1 {limit}"', text,
                          flags=re.MULTILINE)
        with open(config, "w", encoding="utf-8") as output:
            output.write(text)
        os.makedirs(home, exist_ok=True)
        os.replace(config, os.path.join(home, ".why3.conf"))  # others may be reading it
    return dict(os.environ, HOME=home)


def prove(job, function, source, env):
    """Proves one function: number of goals proved, of goals, names of the others; or the end of
    what Frama-C printed."""
    name, bits, _, options = job
    path = f"tests/proof/{name}.c" if name == "fields" else f"{source}/kernel/core/{name}.c"
    header = "threads" if name in THREADS else "pages" if name == "page" else "contracts"
    contracts = "" if name == "fields" else CONTRACTS.format(source=source, header=header)
    command = ["frama-c", "-machdep", "gcc_x86_64", "-c11",
               "-cpp-extra-args=" + CPP.format(build=BUILD, bits=bits, contracts=contracts),
               "-wp", "-wp-rte", "-wp-model", "Typed", "-wp-prover", ",".join(PROVERS),
               "-wp-timeout", str(SECONDS), "-wp-par", "2", "-wp-cache", "update",
               "-wp-cache-dir", os.path.join(BUILD, "cache")]
    if function != LEMMAS:
        command += ["-wp-fct", function]
    result = subprocess.run(command + options + [path], env=env, text=True, check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    total = TOTAL.search(result.stdout)
    failed = GOAL.findall(result.stdout)
    if total is None or re.search(r"\[kernel\] (User Error|Frama-C aborted)", result.stdout) or \
            int(total.group(1)) + len(failed) != int(total.group(2)):
        return "\n".join(result.stdout.splitlines()[-15:])
    return int(total.group(1)), int(total.group(2)), failed


def expected_unproved():
    with open("tests/proof/expected-unproved", encoding="ascii") as lines:
        return {tuple(line.split()[:2]) for line in lines
                if line.strip() and not line.startswith("#")}


def arguments_read():
    parser = argparse.ArgumentParser()
    parser.add_argument("--file")
    parser.add_argument("--function")
    parser.add_argument("--source", default=".")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--first", action="store_true")
    return parser.parse_args()


def tasks(arguments):
    for job in JOBS:
        if arguments.file in (None, job[0]) and \
                (arguments.file is not None or job[0] not in LONG or arguments.long):
            for function in job[2].split(","):
                if arguments.function in (None, function):
                    yield job, function


class Tally:
    """What was proved so far, and what should have been."""

    def __init__(self, count):
        self.count, self.done, self.proved, self.goals = count, 0, 0, 0
        self.surprises, self.began = [], time.monotonic()
        self.expected = expected_unproved()

    def add(self, file, function, result):
        proved, goals, failed = result
        self.done += 1
        self.proved += proved
        self.goals += goals
        print(f"[{self.done}/{self.count}] {file}.c {function}: {proved} of {goals}", flush=True)
        for goal in failed:
            known = (file, goal) in self.expected
            print(f"  not proved{', as expected' if known else ''}: {file} {goal}", flush=True)
            if not known:
                self.surprises.append(goal)

    def verdict(self):
        minutes = f"in {(time.monotonic() - self.began) / 60:.0f} minutes"
        if self.surprises:
            print(f"FAIL proof: {len(self.surprises)} goals are not proved, "
                  f"{self.proved} of {self.goals} are, {minutes}")
            return 1
        print(f"PASS proof {self.proved} goals of {self.goals} {minutes}")
        return 0


def main():
    arguments = arguments_read()
    if subprocess.run([sys.executable, "tests/proof/bits.py", BUILD], check=False).returncode:
        print("FAIL proof of the bit-level facts")
        return 1
    env = environment()
    os.makedirs(os.path.join(BUILD, "cache"), exist_ok=True)
    chosen = list(tasks(arguments))
    tally = Tally(len(chosen))
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        results = [pool.submit(prove, *task, arguments.source, env) for task in chosen]
        for (job, function), result in zip(chosen, results):
            if isinstance(result.result(), str):
                print(result.result())
                print(f"FAIL proof of {function} in {job[0]}.c: Frama-C does not accept it")
                pool.shutdown(cancel_futures=True)
                return 1
            tally.add(job[0], function, result.result())
            if tally.surprises and arguments.first:
                pool.shutdown(cancel_futures=True)
                break
    return tally.verdict()


if __name__ == "__main__":
    sys.exit(main())
