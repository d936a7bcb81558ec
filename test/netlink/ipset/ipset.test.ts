import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FakeNetlink, openNetlink } from '../../../src/netlink/index.ts';
import {
  addMember,
  addMembers,
  createSet,
  deleteMember,
  destroySet,
  flushSet,
  getSet,
  listSets,
  type Member,
  replaceMembers,
  swapSets,
} from '../../../src/netlink/ipset/index.ts';
import type { NetworkNamespace } from '../../../src/netns/index.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { hex } from '../golden.ts';

const pods = { name: 'pods', family: 4, comments: true } as const;

/** What a call would send: type, flags without REQUEST and ACK, and everything behind nlmsghdr. */
function sent(call: (netlink: FakeNetlink) => void): { type: number; flags: number; payload: string }[] {
  const fake = new FakeNetlink();
  call(fake);
  return fake.requests.map(({ type, flags, payload }) => ({
    type,
    flags: flags & ~0x5,
    payload: payload.toString('hex'),
  }));
}

/** Bytes as `strace -e write=all` showed them. */
function bytes(text: string): string {
  return hex(text).toString('hex');
}

describe('against the bytes ipset 7.17 sends', () => {
  it.each<[string, (netlink: FakeNetlink) => void, number, number, string]>([
    [
      'create pods hash:ip comment',
      (netlink) => createSet(netlink, pods),
      0x602,
      0x600,
      // The tool asks for the kernel's newest revision (06), we for the first with comments.
      `02000000 05000100 07000000 09000200 706f6473 00000000 0c000300 68617368 3a697000
       05000400 02000000 05000500 02000000 0c000780 08000840 00000010`,
    ],
    [
      'create six hash:ip family inet6 comment maxelem 1000 hashsize 64',
      (netlink) => createSet(netlink, { name: 'six', family: 6, comments: true, maxElements: 1000, hashSize: 64 }),
      0x602,
      0x600,
      `02000000 05000100 07000000 08000200 73697800 0c000300 68617368 3a697000
       05000400 02000000 05000500 0a000000 1c000780 08000840 00000010 08001240 00000040 08001340 000003e8`,
    ],
    [
      'add pods 10.1.0.5 comment uid-1',
      (netlink) => addMember(netlink, 'pods', { ip: '10.1.0.5', comment: 'uid-1' }),
      0x609,
      0x200,
      `02000000 05000100 07000000 09000200 706f6473 00000000 24000780 0c000180 08000140 0a010005
       0a001a00 7569642d 31000000 08000940 00000000`,
    ],
    [
      '-exist add pods 10.1.0.6 comment uid-2',
      (netlink) => addMember(netlink, 'pods', { ip: '10.1.0.6', comment: 'uid-2' }, { existOk: true }),
      0x609,
      0,
      `02000000 05000100 07000000 09000200 706f6473 00000000 24000780 0c000180 08000140 0a010006
       0a001a00 7569642d 32000000 08000940 00000000`,
    ],
    [
      'add six fd00::1',
      (netlink) => addMember(netlink, 'six', { ip: 'fd00::1' }),
      0x609,
      0x200,
      `02000000 05000100 07000000 08000200 73697800 24000780 18000180 14000240 fd000000 00000000 00000000 00000001
       08000940 00000000`,
    ],
    [
      'restore: add pods 10.1.0.7 comment a; add pods 10.1.0.8',
      (netlink) => addMembers(netlink, 'pods', [{ ip: '10.1.0.7', comment: 'a' }, { ip: '10.1.0.8' }]),
      0x609,
      0x200,
      `02000000 05000100 07000000 09000200 706f6473 00000000 08000940 00000001
       3c000880 20000780 0c000180 08000140 0a010007 06001a00 61000000 08000940 00000001
       18000780 0c000180 08000140 0a010008 08000940 00000002`,
    ],
    [
      'del pods 10.1.0.5',
      (netlink) => deleteMember(netlink, 'pods', '10.1.0.5'),
      0x60a,
      0x200,
      '02000000 05000100 07000000 09000200 706f6473 00000000 18000780 0c000180 08000140 0a010005 08000940 00000000',
    ],
    [
      'swap pods other',
      (netlink) => swapSets(netlink, 'pods', 'other'),
      0x606,
      0,
      '02000000 05000100 07000000 09000200 706f6473 00000000 0a000300 6f746865 72000000',
    ],
    [
      'flush other',
      (netlink) => flushSet(netlink, 'other'),
      0x604,
      0,
      '02000000 05000100 07000000 0a000200 6f746865 72000000',
    ],
    [
      'destroy other',
      (netlink) => destroySet(netlink, 'other'),
      0x603,
      0x200,
      '02000000 05000100 07000000 0a000200 6f746865 72000000',
    ],
    [
      'list pods',
      (netlink) => getSet(netlink, 'pods'),
      0x607,
      0x300,
      '02000000 05000100 07000000 09000200 706f6473 00000000',
    ],
  ])('%s', (_command, call, type, flags, payload) => {
    expect(sent(call)).toEqual([{ type, flags, payload: bytes(payload) }]);
  });

  it('reads what the kernel answers to list pods', () => {
    const answer = hex(`02000000 05000100 07000000 09000200 706f6473 00000000 0c000300 68617368 3a697000
      05000500 02000000 05000400 06000000 06000b40 00000000
      44000780 08001240 00000400 08001340 00010000 05001500 0c000000 08001140 bb6cd7a9 08001940 00000000
      08001a40 0000016a 08001840 00000002 08000840 00000010
      2c000880 10000780 0c000180 08000100 0a010008 18000780 0c000180 08000100 0a010007 06001a00 61000000`);
    const fake = new FakeNetlink(() => [{ type: 0x607, payload: answer }]);
    expect(listSets(fake)).toEqual([
      {
        name: 'pods',
        type: 'hash:ip',
        family: 4,
        comments: true,
        maxElements: 65_536,
        hashSize: 1024,
        references: 0,
        memoryBytes: 0x16a,
        members: [{ ip: '10.1.0.8' }, { ip: '10.1.0.7', comment: 'a' }],
      },
    ]);
  });
});

describe('bad input is refused by name, and nothing is sent', () => {
  it.each<[string, (netlink: FakeNetlink) => void, string, string]>([
    ['a name of 32 bytes', (n) => createSet(n, { name: 'x'.repeat(32), family: 4 }), 'ERR_IPSET_INVALID', 'name'],
    ['a name with a space', (n) => flushSet(n, 'my pods'), 'ERR_IPSET_INVALID', 'name'],
    ['no name to swap with', (n) => swapSets(n, 'pods', ''), 'ERR_IPSET_INVALID', 'other'],
    ['no family', (n) => createSet(n, { name: 'x', family: 5 as 4 }), 'ERR_IPSET_INVALID', 'family'],
    ['no room', (n) => createSet(n, { name: 'x', family: 4, maxElements: 0 }), 'ERR_IPSET_INVALID', 'maxElements'],
    ['no address', (n) => addMember(n, 'pods', { ip: '10.1.0' }), 'ERR_IP_ADDRESS', 'member.ip'],
    [
      'a comment of 256 bytes',
      (n) => addMembers(n, 'pods', [{ ip: '10.0.0.1' }, { ip: '10.0.0.2', comment: 'x'.repeat(256) }]),
      'ERR_IPSET_INVALID',
      'members[1].comment',
    ],
  ])('%s', (_what, call, code, field) => {
    const fake = new FakeNetlink();
    expect(() => call(fake)).toThrow(expect.objectContaining({ code, field }));
    expect(fake.requests).toEqual([]);
  });
});

/** What `ipset list -o save` says, without what differs from run to run. */
function saved(namespace: NetworkNamespace): string[] {
  return runIn(namespace, 'ipset', 'list', '-o', 'save')
    .trim()
    .split('\n')
    .map((line) => line.replace(/ bucketsize.*| initval \w+/, ''))
    .sort();
}

function byIp(members: readonly Member[]): Member[] {
  return [...members].sort((a, b) => (a.ip < b.ip ? -1 : 1));
}

describeRequiring('with the kernel and ipset', { root: true, tools: ['ipset', 'iptables'] }, () => {
  async function inFresh(
    body: (netlink: ReturnType<typeof openNetlink>, namespace: NetworkNamespace) => void | Promise<void>,
  ): Promise<void> {
    await withNamespaces(['ipset'], async (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace: namespace! });
      await body(netlink, namespace!);
    });
  }

  it('ipset reads what we make', async () => {
    await inFresh((netlink, namespace) => {
      createSet(netlink, pods);
      createSet(netlink, { name: 'six', family: 6, maxElements: 1000, hashSize: 64 });
      addMember(netlink, 'pods', { ip: '10.1.0.5', comment: 'uid 1' });
      addMembers(netlink, 'pods', [{ ip: '10.1.0.6' }, { ip: '10.1.0.7', comment: 'c' }]);
      addMember(netlink, 'six', { ip: 'fd00::1' });
      deleteMember(netlink, 'pods', '10.1.0.6');
      expect(saved(namespace)).toEqual([
        'add pods 10.1.0.5 comment "uid 1"',
        'add pods 10.1.0.7 comment "c"',
        'add six fd00::1',
        'create pods hash:ip family inet hashsize 1024 maxelem 65536 comment',
        'create six hash:ip family inet6 hashsize 64 maxelem 1000',
      ]);
      const xml = runIn(namespace, 'ipset', 'list', 'pods', '-o', 'xml');
      expect(xml).toContain('<elem>10.1.0.5</elem><comment>"uid 1"</comment>');
    });
  });

  it('we read what ipset makes', async () => {
    await inFresh((netlink, namespace) => {
      runIn(namespace, 'ipset', 'create', 'pods', 'hash:ip', 'comment', 'maxelem', '500');
      runIn(namespace, 'ipset', 'add', 'pods', '10.1.0.5', 'comment', 'uid-1');
      runIn(namespace, 'ipset', 'create', 'ports', 'bitmap:port', 'range', '1-100');
      runIn(namespace, 'ipset', 'add', 'ports', '80');
      expect(getSet(netlink, 'pods')).toMatchObject({
        type: 'hash:ip',
        family: 4,
        comments: true,
        maxElements: 500,
        members: [{ ip: '10.1.0.5', comment: 'uid-1' }],
      });
      expect(listSets(netlink).map(({ name, type }) => [name, type])).toEqual(
        expect.arrayContaining([
          ['pods', 'hash:ip'],
          ['ports', 'bitmap:port'],
        ]),
      );
      expect(getSet(netlink, 'nothing')).toBeUndefined();
    });
  });

  it('flush, swap and destroy do what they say', async () => {
    await inFresh((netlink) => {
      createSet(netlink, pods);
      createSet(netlink, { ...pods, name: 'other' });
      addMember(netlink, 'pods', { ip: '10.1.0.5' });
      swapSets(netlink, 'pods', 'other');
      expect(getSet(netlink, 'pods')?.members).toEqual([]);
      expect(getSet(netlink, 'other')?.members).toEqual([{ ip: '10.1.0.5' }]);
      flushSet(netlink, 'other');
      expect(getSet(netlink, 'other')?.members).toEqual([]);
      destroySet(netlink, 'other');
      expect(listSets(netlink).map(({ name }) => name)).toEqual(['pods']);
    });
  });

  it('says what is wrong in codes', async () => {
    await inFresh((netlink, namespace) => {
      const code = (call: () => void) => {
        try {
          call();
        } catch (error) {
          return (error as { code: string }).code;
        }
        return 'done';
      };
      createSet(netlink, pods);
      createSet(netlink, { name: 'six', family: 6, maxElements: 2 });
      addMember(netlink, 'pods', { ip: '10.1.0.5' });
      expect(code(() => createSet(netlink, pods))).toBe('ERR_IPSET_EXISTS');
      expect(code(() => createSet(netlink, pods, { existOk: true }))).toBe('done');
      for (const other of [
        { ...pods, family: 6 },
        { ...pods, comments: false },
      ] as const) {
        expect(code(() => createSet(netlink, other, { existOk: true }))).toBe('ERR_IPSET_MISMATCH');
      }
      runIn(namespace, 'ipset', 'create', 'ports', 'bitmap:port', 'range', '1-100');
      expect(code(() => createSet(netlink, { name: 'ports', family: 4 }, { existOk: true }))).toBe(
        'ERR_IPSET_MISMATCH',
      );
      expect(code(() => addMember(netlink, 'ports', { ip: '10.0.0.1' }))).toBe('ERR_IPSET_MISMATCH');
      expect(code(() => destroySet(netlink, 'nothing'))).toBe('ERR_IPSET_MISSING');
      expect(code(() => destroySet(netlink, 'nothing', { missingOk: true }))).toBe('done');
      expect(code(() => addMember(netlink, 'nothing', { ip: '10.0.0.1' }))).toBe('ERR_IPSET_MISSING');
      expect(code(() => addMember(netlink, 'pods', { ip: '10.1.0.5' }))).toBe('ERR_IPSET_EXISTS');
      expect(code(() => addMember(netlink, 'pods', { ip: '10.1.0.5', comment: 'x' }, { existOk: true }))).toBe('done');
      expect(getSet(netlink, 'pods')?.members).toEqual([{ ip: '10.1.0.5', comment: 'x' }]);
      expect(code(() => deleteMember(netlink, 'pods', '10.1.0.6'))).toBe('ERR_IPSET_MISSING');
      expect(code(() => deleteMember(netlink, 'pods', '10.1.0.6', { missingOk: true }))).toBe('done');
      expect(code(() => addMember(netlink, 'pods', { ip: 'fd00::1' }))).toBe('ERR_IPSET_MISMATCH');
      expect(code(() => addMember(netlink, 'six', { ip: '10.0.0.1' }))).toBe('ERR_IPSET_MISMATCH');
      expect(code(() => addMember(netlink, 'six', { ip: 'fd00::1', comment: 'x' }))).toBe('ERR_IPSET_MISMATCH');
      expect(code(() => swapSets(netlink, 'pods', 'six'))).toBe('ERR_IPSET_MISMATCH');
      expect(code(() => swapSets(netlink, 'pods', 'nothing'))).toBe('ERR_IPSET_MISSING');
      const many = Array.from({ length: 2000 }, (_, i) => ({ ip: `fd00::${(i + 1).toString(16)}` }));
      expect(code(() => addMembers(netlink, 'six', many))).toBe('ERR_IPSET_FULL');
      runIn(namespace, 'iptables', '-A', 'INPUT', '-m', 'set', '--match-set', 'pods', 'src', '-j', 'ACCEPT');
      expect(code(() => destroySet(netlink, 'pods'))).toBe('ERR_IPSET_BUSY');
      expect(getSet(netlink, 'pods')?.references).toBe(1);
    });
  });

  it('replaceMembers: ten thousand at once while a rule uses the set; a failure leaves those it had', async () => {
    await inFresh((netlink, namespace) => {
      createSet(netlink, pods);
      addMember(netlink, 'pods', { ip: '192.0.2.1' });
      runIn(namespace, 'iptables', '-A', 'INPUT', '-m', 'set', '--match-set', 'pods', 'src', '-j', 'ACCEPT');
      const many = Array.from({ length: 10_000 }, (_, i) => ({ ip: `10.0.${i >> 8}.${i & 255}`, comment: `pod-${i}` }));
      replaceMembers(netlink, pods, many);
      expect(getSet(netlink, 'pods')?.members).toHaveLength(10_000);
      expect(() => replaceMembers(netlink, pods, [{ ip: 'fd00::1' }])).toThrow(
        expect.objectContaining({ code: 'ERR_IPSET_MISMATCH' }),
      );
      expect(getSet(netlink, 'pods')?.members).toHaveLength(10_000);
      expect(listSets(netlink).map(({ name }) => name)).toEqual(['pods']);
    });
  });

  it('gives back any members it was given', async () => {
    const comment = fc
      .string({ unit: 'grapheme', minLength: 1, maxLength: 40 })
      .filter((text) => !/[\0\n"]/.test(text));
    const v4 = fc.ipV4().filter((ip) => ip !== '0.0.0.0');
    const member = fc.record({ ip: v4, comment: fc.option(comment, { nil: undefined }) }, { requiredKeys: ['ip'] });
    const list = fc.uniqueArray(member, { selector: ({ ip }) => ip, maxLength: 30 });
    await inFresh((netlink) => {
      createSet(netlink, pods);
      fc.assert(
        fc.property(list, (members) => {
          const wanted = members.map(({ ip, comment }): Member => (comment === undefined ? { ip } : { ip, comment }));
          replaceMembers(netlink, pods, wanted);
          expect(byIp(getSet(netlink, 'pods')!.members)).toEqual(byIp(wanted));
        }),
        { numRuns: 40 },
      );
    });
  });
});
