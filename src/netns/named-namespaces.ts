import { closeSync, fstatSync, mkdirSync, openSync, readdirSync, statSync, unlinkSync } from 'node:fs';
import { InvalidInputError } from '../errors/index.ts';
import {
  check,
  EINVAL,
  ENOENT,
  errno,
  type FileDescriptor,
  libc,
  MNT_DETACH,
  MS_BIND,
  MS_REC,
  MS_SHARED,
  O_CLOEXEC,
  O_RDONLY,
  openFile,
  SystemError,
} from '../system/index.ts';
import { NETNS_DIRECTORY, namespacePath } from './namespace-name.ts';
import { NetnsError } from './netns-error.ts';
import { NetworkNamespace, runInNewNamespace } from './network-namespace.ts';

/** How often one name may be covered by mounts before {@link deleteNamespace} gives up on it. */
const MAX_STACKED_MOUNTS = 64;

/**
 * Makes a namespace under a name, as `ip netns add` does, and opens it. Its `lo` is down. On failure nothing stays behind.
 *
 * @returns owned by the caller; closing it does not delete the name
 * @throws {InvalidInputError} `ERR_NETNS_NAME`
 * @throws {NetnsError} `ERR_NETNS_EXISTS`
 * @throws {SystemError} `EPERM` without CAP_SYS_ADMIN
 */
export function createNamespace(name: string): NetworkNamespace {
  const path = namespacePath(name);
  shareDirectory();
  try {
    closeSync(openSync(path, 'wx', 0));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') {
      throw new NetnsError({ code: 'ERR_NETNS_EXISTS', op: 'netns.create', message: `${path} exists`, cause });
    }
    throw asSystemError(cause, path, 'netns.create');
  }
  try {
    runInNewNamespace(() => {
      check(libc().mount('/proc/thread-self/ns/net', path, 'none', MS_BIND, null), 'mount', path, 'netns.create');
    });
    return openNamespace(name);
  } catch (error) {
    deleteNamespace(name, { missingOk: true });
    throw error;
  }
}

/**
 * Opens a namespace by its name under /run/netns, by an absolute path to it, or by a process that is in it.
 *
 * @returns owned by the caller
 * @throws {InvalidInputError} `ERR_NETNS_NAME` (field `name`), `ERR_NETNS_PID` (field `pid`)
 * @throws {NetnsError} `ERR_NETNS_NOT_FOUND`; `ERR_NETNS_NOT_A_NAMESPACE` for another file, such as what a reboot left of a name
 * @throws {SystemError} with `syscall: 'open'`
 */
export function openNamespace(which: string | { readonly pid: number }): NetworkNamespace {
  const path = pathOf(which);
  let descriptor: FileDescriptor;
  try {
    descriptor = openFile(path, O_RDONLY | O_CLOEXEC);
  } catch (cause) {
    if (!(cause instanceof SystemError) || cause.errno !== ENOENT) throw cause;
    throw notFound('netns.open', path, cause);
  }
  // All namespace files live on one pseudo file system, and nothing else does.
  if (fstatSync(descriptor.fd).dev !== statSync('/proc/thread-self/ns/net').dev) {
    descriptor.close();
    throw new NetnsError({
      code: 'ERR_NETNS_NOT_A_NAMESPACE',
      op: 'netns.open',
      message: `${path} is not a network namespace`,
    });
  }
  const named = typeof which === 'string' && !which.startsWith('/');
  return new NetworkNamespace(descriptor, named ? which : undefined);
}

/** The names under /run/netns in code-unit order, as `ip netns list` has them; none where there is no such directory. */
export function listNamespaces(): string[] {
  try {
    return readdirSync(NETNS_DIRECTORY).sort();
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw asSystemError(cause, NETNS_DIRECTORY, 'netns.list');
  }
}

/**
 * Takes a name away. The namespace itself ends when the last socket, process and descriptor in it does; its veth ends, routes
 * and rules end with it.
 *
 * @throws {InvalidInputError} `ERR_NETNS_NAME`
 * @throws {NetnsError} `ERR_NETNS_NOT_FOUND`, unless `missingOk` (false by default)
 * @throws {SystemError} `EPERM` without CAP_SYS_ADMIN
 */
export function deleteNamespace(name: string, options: { readonly missingOk?: boolean } = {}): void {
  const path = namespacePath(name);
  for (let mounts = 0; mounts < MAX_STACKED_MOUNTS; mounts++) {
    if (libc().umount2(path, MNT_DETACH) === 0) continue;
    const reason = errno();
    if (reason === EINVAL || reason === ENOENT) break; // no mount left, or no file
    throw new SystemError({ syscall: 'umount2', errno: reason, subject: path, op: 'netns.delete' });
  }
  try {
    unlinkSync(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ENOENT') throw asSystemError(cause, path, 'netns.delete');
    if (!options.missingOk) throw notFound('netns.delete', path, cause);
  }
}

function pathOf(which: string | { readonly pid: number }): string {
  if (typeof which === 'string') return which.startsWith('/') ? which : namespacePath(which);
  const { pid } = which;
  if (!Number.isSafeInteger(pid) || pid <= 0) {
    throw new InvalidInputError({
      code: 'ERR_NETNS_PID',
      op: 'netns.open',
      field: 'pid',
      message: `${pid} is not a process id`,
    });
  }
  return `/proc/${pid}/ns/net`;
}

/**
 * Makes /run/netns a shared mount point as `ip netns add` does: a name made here is then seen in every mount namespace, and one
 * deleted here is not held by a copy elsewhere.
 */
function shareDirectory(): void {
  try {
    mkdirSync(NETNS_DIRECTORY, { recursive: true, mode: 0o755 });
  } catch (cause) {
    throw asSystemError(cause, NETNS_DIRECTORY, 'netns.create');
  }
  const { mount } = libc();
  if (mount('', NETNS_DIRECTORY, 'none', MS_SHARED | MS_REC, null) === 0) return;
  const reason = errno();
  if (reason !== EINVAL) {
    throw new SystemError({ syscall: 'mount', errno: reason, subject: NETNS_DIRECTORY, op: 'netns.create' });
  }
  // EINVAL: not a mount point yet.
  check(
    mount(NETNS_DIRECTORY, NETNS_DIRECTORY, 'none', MS_BIND | MS_REC, null),
    'mount',
    NETNS_DIRECTORY,
    'netns.create',
  );
  check(mount('', NETNS_DIRECTORY, 'none', MS_SHARED | MS_REC, null), 'mount', NETNS_DIRECTORY, 'netns.create');
}

function notFound(op: string, path: string, cause: unknown): NetnsError {
  return new NetnsError({ code: 'ERR_NETNS_NOT_FOUND', op, message: `${path} does not exist`, cause });
}

function asSystemError(cause: unknown, subject: string, op: string): unknown {
  const { errno: negative, syscall } = cause as NodeJS.ErrnoException;
  if (negative === undefined || syscall === undefined) return cause;
  return new SystemError({ syscall, errno: -negative, subject, op, cause });
}
