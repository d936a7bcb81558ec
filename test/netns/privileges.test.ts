import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { hasNamespacePrivileges, inUserNamespace } from '../../src/netns/index.ts';
import { describeRequiring, run } from '../support/require.ts';

const page = new URL('../../src/netns/index.ts', import.meta.url).href;
const ASK = `import { hasNamespacePrivileges, inUserNamespace } from ${JSON.stringify(page)};
console.log(JSON.stringify([hasNamespacePrivileges(), inUserNamespace()]));`;
const node = [process.execPath, '--input-type=module', '--eval', ASK] as const;

describeRequiring('privileges', { tools: ['unshare'] }, () => {
  it('are what the kernel lets this process do', () => {
    let worked = true;
    try {
      execFileSync('unshare', ['--net', '--mount', 'true'], { stdio: 'ignore' });
    } catch {
      worked = false;
    }
    expect(hasNamespacePrivileges()).toBe(worked);
  });
});

describeRequiring('privileges of root', { root: true, tools: ['setpriv'] }, () => {
  it.each(['net_admin', 'sys_admin'])('are none without CAP_%s', (capability) => {
    const [privileged] = JSON.parse(run('setpriv', '--bounding-set', `-${capability}`, ...node));
    expect(privileged).toBe(false);
  });

  it('are there in a user namespace too, which is told from the machine’s', () => {
    expect(JSON.parse(run('unshare', '--user', '--map-root-user', ...node))).toEqual([true, true]);
    expect(JSON.parse(run(...node))).toEqual([true, inUserNamespace()]);
  });
});
