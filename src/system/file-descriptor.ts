import { AmbientError } from '../errors/index.ts';
import { libc } from './libc.ts';
import { errno } from './native.ts';
import { SystemError } from './system-error.ts';

/**
 * The one owner of a file descriptor: closes it exactly once, and refuses to name it afterwards, since the kernel hands the same
 * number to the next file that is opened.
 */
export class FileDescriptor {
  #fd: number;
  /** What is open, for error messages: `netns /run/netns/node-a`. */
  readonly subject: string;

  constructor(fd: number, subject: string) {
    this.#fd = fd;
    this.subject = subject;
  }

  /** @throws {AmbientError} `ERR_SYSTEM_CLOSED` after {@link close} or {@link release} */
  get fd(): number {
    if (this.#fd < 0) {
      throw new AmbientError({ code: 'ERR_SYSTEM_CLOSED', op: 'system.fd', message: `${this.subject} is closed` });
    }
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Hands the number over to a new owner, who has to close it. */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  /** Closes the descriptor. A second call does nothing. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    // Linux frees the number even where close() reports an error, so there is nothing to try again.
    libc().close(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens a path. @throws {SystemError} with `syscall: 'open'` */
export function openFile(path: string, flags: number): FileDescriptor {
  const fd = libc().open(path, flags, 0);
  if (fd < 0) throw new SystemError({ syscall: 'open', errno: errno(), subject: path });
  return new FileDescriptor(fd, path);
}
