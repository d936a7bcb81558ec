/**
 * Network namespaces: make, open, enter and delete them. Entering is synchronous, and the thread always comes back; a socket made
 * inside belongs to the namespace for life, so one process can serve many.
 *
 * ```ts
 * import { createServer } from 'node:net';
 * import { createNamespace, deleteNamespace, writeSysctl } from 'ambient-kit/netns';
 *
 * using pod = createNamespace('pod-a');                       // what `ip netns list` shows
 * writeSysctl(pod, 'net.ipv4.ip_forward', '1');
 * const server = pod.run(() => createServer().listen(8080));
 * // … the server answers inside pod-a, its JavaScript runs here
 * server.close();
 * deleteNamespace('pod-a');
 * ```
 *
 * Only what happens before the function returns happens inside: `net.Server.listen` with a `host` and `net.connect` look the host up
 * first, even an IP address, and make their socket afterwards. `listen()` and `connect()` of `ambient-kit/socket` do not.
 *
 * Needs CAP_SYS_ADMIN. Works in worker threads: a namespace is entered by one thread, never by the process.
 *
 * Without privileges, a user namespace has them, where the kernel allows one. A process with threads cannot enter it, so a program starts
 * itself again in there, where everything of this library works:
 *
 * ```ts
 * import { hasNamespacePrivileges, runInUserNamespace } from 'ambient-kit/netns';
 *
 * if (!hasNamespacePrivileges()) {
 *   process.exit(await runInUserNamespace({ command: process.execPath, args: process.argv.slice(1) }));
 * }
 * // … here with CAP_SYS_ADMIN and CAP_NET_ADMIN, a network and a /run of its own
 * ```
 *
 * @module netns
 */

export { createNamespace, deleteNamespace, listNamespaces, openNamespace } from './named-namespaces.ts';
export { NETNS_DIRECTORY, namespacePath } from './namespace-name.ts';
export { NetnsError } from './netns-error.ts';
export { currentNamespace, NetworkNamespace } from './network-namespace.ts';
export { hasNamespacePrivileges, inUserNamespace } from './privileges.ts';
export { readSysctl, writeSysctl } from './sysctl.ts';
export {
  runInUserNamespace,
  type UserNamespaceCommand,
  type UserNamespaceSupport,
  userNamespaceSupport,
} from './user-namespace.ts';
