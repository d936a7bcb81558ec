import { type Address, errno, native } from './native.ts';
import { SystemError } from './system-error.ts';

/** What koffi takes for a `void*` in the calls that are not on a hot path. */
type Data = Uint8Array | Int32Array | null;

/**
 * The system calls, as the C library spells them: every one returns what C returns, and {@link errno} has the reason.
 * Two kinds of memory arguments: `Data` for calls made once in a while, {@link Address} for those made per chunk.
 */
function bind() {
  return {
    open: native<(path: string, flags: number, mode: number) => number>('int open(const char*, int, int)'),
    close: native<(fd: number) => number>('int close(int)'),
    read: native<(fd: number, data: Data, length: number) => number>('int64_t read(int, void*, uint64_t)'),
    write: native<(fd: number, data: Data, length: number) => number>('int64_t write(int, void*, uint64_t)'),
    fcntl: native<(fd: number, command: number, argument: number) => number>('int fcntl(int, int, int64_t)'),
    pipe2: native<(ends: Data, flags: number) => number>('int pipe2(void*, int)'),
    eventfd: native<(initial: number, flags: number) => number>('int eventfd(unsigned int, int)'),

    socket: native<(family: number, type: number, protocol: number) => number>('int socket(int, int, int)'),
    setsockopt: native<(fd: number, level: number, option: number, value: Data, length: number) => number>(
      'int setsockopt(int, int, int, void*, uint32_t)',
    ),
    /** `length` is a `socklen_t` in and out: an Int32Array of one. */
    getsockopt: native<(fd: number, level: number, option: number, value: Data, length: Data) => number>(
      'int getsockopt(int, int, int, void*, void*)',
    ),
    bind: native<(fd: number, address: Data, length: number) => number>('int bind(int, void*, uint32_t)'),
    listen: native<(fd: number, backlog: number) => number>('int listen(int, int)'),
    connect: native<(fd: number, address: Data, length: number) => number>('int connect(int, void*, uint32_t)'),
    accept4: native<(fd: number, address: Data, length: Data, flags: number) => number>(
      'int accept4(int, void*, void*, int)',
    ),
    getsockname: native<(fd: number, address: Data, length: Data) => number>('int getsockname(int, void*, void*)'),
    getpeername: native<(fd: number, address: Data, length: Data) => number>('int getpeername(int, void*, void*)'),
    shutdown: native<(fd: number, how: number) => number>('int shutdown(int, int)'),
    recv: native<(fd: number, to: Address, length: number, flags: number) => number>(
      'int64_t recv(int, uintptr_t, uint64_t, int)',
    ),
    send: native<(fd: number, from: Address, length: number, flags: number) => number>(
      'int64_t send(int, uintptr_t, uint64_t, int)',
    ),
    recvData: native<(fd: number, to: Data, length: number, flags: number) => number>(
      'int64_t recv(int, void*, uint64_t, int)',
    ),
    sendData: native<(fd: number, from: Data, length: number, flags: number) => number>(
      'int64_t send(int, void*, uint64_t, int)',
    ),
    recvfrom: native<(fd: number, to: Data, length: number, flags: number, from: Data, fromLength: Data) => number>(
      'int64_t recvfrom(int, void*, uint64_t, int, void*, void*)',
    ),
    sendto: native<(fd: number, from: Data, length: number, flags: number, to: Data, toLength: number) => number>(
      'int64_t sendto(int, void*, uint64_t, int, void*, uint32_t)',
    ),
    /** Both offsets are NULL: pipes and sockets have none. */
    splice: native<(from: number, fromAt: 0, to: number, toAt: 0, length: number, flags: number) => number>(
      'int64_t splice(int, uintptr_t, int, uintptr_t, uint64_t, unsigned int)',
    ),
    poll: native<(fds: Data, count: number, timeoutMs: number) => number>('int poll(void*, uint64_t, int)'),
    epoll_create1: native<(flags: number) => number>('int epoll_create1(int)'),
    epoll_ctl: native<(epoll: number, operation: number, fd: number, event: Address) => number>(
      'int epoll_ctl(int, int, int, uintptr_t)',
    ),
    epoll_wait: native<(epoll: number, events: Address, count: number, timeoutMs: number) => number>(
      'int epoll_wait(int, uintptr_t, int, int)',
    ),

    sched_yield: native<() => number>('int sched_yield()'),

    getpagesize: native<() => number>('int getpagesize()'),
    madvise: native<(start: Address, length: number, advice: number) => number>(
      'int madvise(uintptr_t, uint64_t, int)',
    ),
    setns: native<(fd: number, type: number) => number>('int setns(int, int)'),
    unshare: native<(flags: number) => number>('int unshare(int)'),
    mount: native<(source: string, target: string, type: string | null, flags: number, data: string | null) => number>(
      'int mount(const char*, const char*, const char*, uint64_t, const char*)',
    ),
    umount2: native<(target: string, flags: number) => number>('int umount2(const char*, int)'),
    if_nametoindex: native<(name: string) => number>('unsigned int if_nametoindex(const char*)'),
  };
}

export type Libc = ReturnType<typeof bind>;

let bound: Libc | undefined;

/**
 * The C library of this process, bound at the first call.
 *
 * @throws {UnsupportedPlatformError} `ERR_SYSTEM_UNSUPPORTED` off Linux, or where a function is missing
 */
export function libc(): Libc {
  bound ??= bind();
  return bound;
}

/** Gives `result` back unless it is negative. @throws {SystemError} naming `syscall` and `subject` */
export function check(result: number, syscall: string, subject?: string, op?: string): number {
  if (result >= 0) return result;
  throw new SystemError({ syscall, errno: errno(), subject, ...(op === undefined ? {} : { op }) });
}
