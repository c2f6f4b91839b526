"""Which calls of the kernel code in the sandbox may make: those that Python and ordinary programs compute with.

What is not listed does not exist for it (ENOSYS, upon which libraries take an older way): no socket is opened, nothing
is mounted, traced or watched, no namespace is entered, no memory is had beside the address space that is limited. The
list is of what is allowed, so that a call which a later kernel brings is refused too.
"""

import errno
import os
from functools import cache

_FILES = """
access chdir chmod close close_range copy_file_range creat dup dup2 dup3 faccessat faccessat2 fallocate fchdir fchmod
fchmodat fcntl fdatasync fgetxattr flistxattr flock fstat fstatfs fsync ftruncate getcwd getdents getdents64 getxattr
lgetxattr link linkat listxattr llistxattr lseek lstat mkdir mkdirat newfstatat open openat pipe pipe2 pread64 preadv
pwrite64 pwritev read readlink readlinkat readv rename renameat renameat2 rmdir sendfile stat statfs statx symlink
symlinkat truncate umask unlink unlinkat utime utimensat utimes write writev
"""
_WAITING = """
alarm clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd
eventfd2 getitimer gettimeofday nanosleep pause poll ppoll pselect6 restart_syscall select setitimer time timer_create
timer_delete timer_getoverrun timer_gettime timer_settime times
"""
_PROCESSES = """
arch_prctl brk execve exit exit_group fork futex get_robust_list getegid geteuid getgid getgroups getpgid getpgrp getpid
getppid getpriority getrandom getresgid getresuid getrlimit getrusage getsid gettid getuid kill madvise membarrier
mincore mprotect mremap msync munmap prlimit64 rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_get_priority_max sched_get_priority_min sched_getaffinity
sched_getparam sched_getscheduler sched_yield set_robust_list set_tid_address setpgid setrlimit setsid sigaltstack
sysinfo tgkill tkill uname vfork wait4 waitid
"""
#: Of pairs alone (asyncio wakes itself through one): none can be bound or connected to anything.
_SOCKET_PAIRS = "getsockopt recvfrom recvmsg sendmsg sendto shutdown socketpair"
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)  # TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_PRCTLS = (15, 16)  # the name of a thread
_NEW_NAMESPACES = 0x7E020000  # of clone's flags, CLONE_NEWNS to CLONE_NEWNET
_HUGE_PAGES = 0x40000  # of mmap's flags; what is set aside for databases is counted nowhere as a program's
_LOW_HALF = 0xFFFFFFFF  # what the kernel reads of an int in a register


@cache
def program() -> bytes:
    """The filter for this processor, in the BPF that `bwrap --seccomp` loads.

    Raises ImportError without pyseccomp, RuntimeError or OSError without libseccomp.
    """
    import pyseccomp as seccomp

    made = seccomp.SyscallFilter(seccomp.ERRNO(errno.ENOSYS))
    for name in f"{_FILES} {_WAITING} {_PROCESSES} {_SOCKET_PAIRS}".split():
        # A call that this processor never had (arm64 has no `open`) has a number below 0.
        if seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0:
            made.add_rule(seccomp.ALLOW, name)
    made.add_rule(seccomp.ALLOW, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, _NEW_NAMESPACES, 0))
    made.add_rule(seccomp.ALLOW, "mmap", seccomp.Arg(3, seccomp.MASKED_EQ, _HUGE_PAGES, 0))
    for name, place, values in (("ioctl", 1, _IOCTLS), ("prctl", 0, _PRCTLS)):
        for value in values:
            made.add_rule(seccomp.ALLOW, name, seccomp.Arg(place, seccomp.MASKED_EQ, _LOW_HALF, value))
    with open(os.memfd_create("filter"), "w+b") as file:
        made.export_bpf(file)
        file.seek(0)
        return file.read()
