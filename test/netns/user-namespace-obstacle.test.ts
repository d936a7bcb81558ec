import { describe, expect, it } from 'vitest';
import { userNamespaceObstacle } from '../../src/netns/user-namespace-obstacle.ts';

const UNSHARE_EPERM = 'unshare: unshare failed: Operation not permitted';
const UID_MAP = 'unshare: write failed /proc/self/uid_map: Operation not permitted';
const MOUNT =
  'mount: /proc: permission denied.\n       dmesg(1) may have more information after failed mount system call.';

/** A machine that allows everything, but for these. */
function machine(facts: Readonly<Record<string, string | undefined>>) {
  const all: Readonly<Record<string, string | undefined>> = {
    '/proc/self/uid_map': '0 0 4294967295',
    '/proc/sys/user/max_user_namespaces': '96364',
    '/proc/self/status': 'Name:\tnode\nSeccomp:\t0',
    ...facts,
  };
  return (path: string) => all[path];
}

describe('userNamespaceObstacle', () => {
  it.each([
    ['a kernel without them', UNSHARE_EPERM, { '/proc/self/uid_map': undefined }, /CONFIG_USER_NS/],
    [
      'Debian’s switch',
      UNSHARE_EPERM,
      { '/proc/sys/kernel/unprivileged_userns_clone': '0' },
      /kernel\.unprivileged_userns_clone is 0$/,
    ],
    [
      'none allowed',
      'unshare: unshare failed: No space left on device',
      { '/proc/sys/user/max_user_namespaces': '0' },
      /user\.max_user_namespaces is 0$/,
    ],
    [
      'none of another kind allowed',
      'unshare: unshare failed: No space left on device',
      { '/proc/sys/user/max_net_namespaces': '0' },
      /user\.max_net_namespaces is 0$/,
    ],
    [
      'Ubuntu’s AppArmor',
      UID_MAP,
      { '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '1' },
      /kernel\.apparmor_restrict_unprivileged_userns is 1/,
    ],
    ['a container’s filter', UNSHARE_EPERM, { '/proc/self/status': 'Name:\tnode\nSeccomp:\t2' }, /seccomp filter/],
    ['a container’s masked /proc', MOUNT, { '/proc/self/status': 'Seccomp:\t2' }, /hides parts of \/proc or \/sys/],
    ['another unshare', 'unshare: unrecognized option: map-root-user', {}, /not that of util-linux/],
    ['nothing that is known', 'unshare: unshare failed: Out of memory', {}, /^unshare: unshare failed: Out of memory$/],
  ])('%s', (_what, failure, facts, expected) => {
    expect(userNamespaceObstacle(failure, machine(facts))).toMatch(expected);
  });

  it('does not blame a switch that forbids nothing', () => {
    const facts = {
      '/proc/sys/kernel/unprivileged_userns_clone': '1',
      '/proc/sys/kernel/apparmor_restrict_unprivileged_userns': '0',
      '/proc/sys/user/max_pid_namespaces': '1',
    };
    expect(userNamespaceObstacle(UNSHARE_EPERM, machine(facts))).toBe(UNSHARE_EPERM);
  });

  it('a tool that is not there, and one that cannot be run', () => {
    const missing = Object.assign(new Error('spawn unshare ENOENT'), { code: 'ENOENT' });
    const forbidden = Object.assign(new Error('spawn unshare EACCES'), { code: 'EACCES' });
    expect(userNamespaceObstacle(missing, machine({}))).toMatch(/no program `unshare` .* util-linux/);
    expect(userNamespaceObstacle(forbidden, machine({}))).toBe('`unshare` cannot be run: spawn unshare EACCES');
  });
});
