import { getSystemErrorName } from 'node:util';
import { AmbientError } from '../errors/index.ts';

/** What a failed system call leaves behind. */
export interface SystemErrorInit {
  readonly syscall: string;
  /** The kernel's number, positive: 98 for EADDRINUSE. */
  readonly errno: number;
  /** Which operation of the library made the call; `system.<syscall>` by default. */
  readonly op?: string;
  /** What the call was about: an address, a device, a path. */
  readonly subject?: string | undefined;
  readonly cause?: unknown;
}

/** A system call that failed. `code` is the errno's name (`EADDRINUSE`), as Node's own errors have it. */
export class SystemError extends AmbientError {
  override readonly name = 'SystemError';
  /** Positive, as in `<errno.h>`. */
  readonly errno: number;
  readonly syscall: string;

  constructor(init: SystemErrorInit) {
    const code = errnoName(init.errno);
    const subject = init.subject === undefined ? '' : ` ${init.subject}`;
    super({
      code,
      op: init.op ?? `system.${init.syscall}`,
      message: `${init.syscall}${subject} failed with ${code}`,
      cause: init.cause,
    });
    this.errno = init.errno;
    this.syscall = init.syscall;
  }
}

/** This platform or Node binary lacks something that the library is built on. `code` is `ERR_SYSTEM_UNSUPPORTED`. */
export class UnsupportedPlatformError extends AmbientError {
  override readonly name = 'UnsupportedPlatformError';

  constructor(missing: string, cause?: unknown) {
    super({ code: 'ERR_SYSTEM_UNSUPPORTED', op: 'system.load', message: missing, cause });
  }
}

/** `EADDRINUSE` for 98. A number the C library does not know is spelled `E#1234`. */
export function errnoName(errno: number): string {
  try {
    const name = getSystemErrorName(-errno);
    return name.startsWith('Unknown') ? `E#${errno}` : name;
  } catch {
    return `E#${errno}`;
  }
}
