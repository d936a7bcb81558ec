/**
 * The one door to the kernel: system calls and OpenSSL by FFI, descriptors with one owner, errors with `errno` and `syscall`.
 * Every other module is plain TypeScript above this one.
 *
 * ```ts
 * import { check, libc } from 'ambient-kit/system';
 * import { AF_INET, SOCK_CLOEXEC, SOCK_STREAM } from 'ambient-kit/system';
 *
 * const fd = check(libc().socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), 'socket');
 * libc().close(fd);
 * ```
 *
 * Functions are bound when they are first asked for, so importing this module is safe anywhere; on a platform that lacks
 * what is asked for, the call throws `ERR_SYSTEM_UNSUPPORTED` and names it.
 *
 * @module system
 */

export * from './constants.ts';
export { FileDescriptor, openFile } from './file-descriptor.ts';
export { releaseFreeMemory } from './free-memory.ts';
export { check, type Libc, libc } from './libc.ts';
export { type Address, errno, type NativeCallback, native, nativeCallback } from './native.ts';
export { addressOf, NativeMemory } from './native-memory.ts';
export * from './openssl.ts';
export { type ProgramMapping, programMappings, releaseProgramPages } from './program-pages.ts';
export { releasePages } from './release-pages.ts';
export { resetOnClose } from './reset-on-close.ts';
export { decodeSockaddr, encodeSockaddr, isV4Mapped, SOCKADDR_BYTES } from './sockaddr.ts';
export { errnoName, SystemError, type SystemErrorInit, UnsupportedPlatformError } from './system-error.ts';
export { tcpClosed } from './tcp-state.ts';
