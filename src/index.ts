/**
 * ambient-kit is imported module by module: `ambient-kit/rbac`, `ambient-kit/netlink/route`. This page only names them, so that
 * nothing is loaded that is not asked for.
 *
 * ```ts
 * import { modules } from 'ambient-kit';
 *
 * console.log(modules.map((module) => `ambient-kit/${module}`).join('\n'));
 * ```
 *
 * @module ambient-kit
 */

/** Every module's sub-path. */
export const modules = [
  'discovery',
  'engine',
  'errors',
  'explain',
  'hbone',
  'http2',
  'identity',
  'ip',
  'lab',
  'netlink',
  'netlink/conntrack',
  'netlink/ipset',
  'netlink/nftables',
  'netlink/route',
  'netns',
  'rbac',
  'redirection',
  'socket',
  'system',
  'telemetry',
  'ztunnel',
] as const;
