import { arch, platform } from 'node:process';
import koffi from 'koffi';
import { UnsupportedPlatformError } from './system-error.ts';

/**
 * An address in this process, as a plain number: user-space addresses of Linux stay below 2^47 on x86-64 and 2^48 on
 * AArch64, so a double holds them exactly and adding an offset is ordinary arithmetic.
 */
export type Address = number;

let library: ReturnType<typeof koffi.load> | undefined;

function processLibrary(): ReturnType<typeof koffi.load> {
  if (library !== undefined) return library;
  if (platform !== 'linux') {
    throw new UnsupportedPlatformError(`needs Linux (network namespaces, netlink, epoll), this is ${platform}`);
  }
  if (arch !== 'x64' && arch !== 'arm64') {
    throw new UnsupportedPlatformError(`needs x86-64 or AArch64 (struct layouts), this is ${arch}`);
  }
  try {
    library = koffi.load(null);
  } catch (cause) {
    throw new UnsupportedPlatformError('koffi cannot open this process as a library', cause);
  }
  return library;
}

/**
 * Binds one C function of this process: libc, or the OpenSSL inside the Node binary.
 *
 * @param prototype - a C prototype; pointers that the caller computes are declared `uintptr_t` and passed as {@link Address}
 * @throws {UnsupportedPlatformError} `ERR_SYSTEM_UNSUPPORTED`, naming the function that this Node binary does not have
 */
export function native<F extends (...args: never[]) => unknown>(prototype: string): F {
  try {
    return processLibrary().func(prototype) as unknown as F;
  } catch (cause) {
    if (cause instanceof UnsupportedPlatformError) throw cause;
    const name = /(\w+)\s*\(/.exec(prototype)?.[1] ?? prototype;
    throw new UnsupportedPlatformError(`this Node binary (${process.version}) does not offer ${name}()`, cause);
  }
}

/** `errno` of the last call made through {@link native} on this thread: read it right after the call that failed. */
export function errno(): number {
  return koffi.errno();
}

/**
 * A C function pointer that calls `callback`, for the few interfaces that ask for one.
 *
 * @returns the pointer, valid until {@link NativeCallback.release}; the native side must have forgotten it by then
 */
export interface NativeCallback {
  readonly address: Address;
  release(): void;
}

/** Registers `callback` under a C prototype such as `int verify(int ok, uintptr_t ctx)`. Owned by the caller. */
export function nativeCallback(prototype: string, callback: (...args: never[]) => unknown): NativeCallback {
  processLibrary();
  const registered = koffi.register(callback as never, koffi.pointer(koffi.proto(prototype)));
  let live = true;
  return {
    address: Number(koffi.address(registered)),
    release() {
      if (live) koffi.unregister(registered);
      live = false;
    },
  };
}
