import { describe, expect, it } from 'vitest';
import { FakeNetlink } from '../../../src/netlink/fake-netlink.ts';
import { openNetlink } from '../../../src/netlink/index.ts';
import { readMessages } from '../../../src/netlink/message-reader.ts';
import {
  Batch,
  listChains,
  listElements,
  listRules,
  listSets,
  listTables,
  match,
  type NftablesError,
  ruleCounter,
  statement,
} from '../../../src/netlink/nftables/index.ts';
import { runIn, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';
import { golden } from './golden.ts';

const table = { family: 'ip', name: 't' } as const;
const pods = { table, name: 'pods', keyType: 'ipv4_addr' } as const;

/** The messages that a batch would send, without nlmsghdr. */
function sent(batch: Batch): { type: number; flags: number; hex: string }[] {
  const fake = new FakeNetlink();
  batch.commit(fake);
  return fake.requests.map(({ type, flags, payload }) => ({ type, flags, hex: payload.toString('hex') }));
}

describe('Batch, against the bytes nft sends', () => {
  it('add table ip t', () => {
    // { NFTA_TABLE_NAME "t", NFTA_TABLE_FLAGS 0 }
    const [message] = sent(new Batch().addTable(table));
    expect(message).toMatchObject({ type: 0xa00, hex: '0200000006000100740000000800020000000000' });
  });

  it('add chain ip t save', () => {
    const [message] = sent(new Batch().addChain({ table, name: 'save' }));
    expect(message).toMatchObject({
      type: 0xa03,
      flags: 0x401,
      hex: '020000000600010074000000090003007361766500000000',
    });
  });

  it('add chain ip t pre { type filter hook prerouting priority mangle; policy accept; }', () => {
    const base = { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' } as const;
    expect(sent(new Batch().addChain({ table, name: 'pre', base }))[0]?.hex).toBe(
      '02000000060001007400000008000300707265000b00070066696c74657200000800050000000001' +
        '14000480080001000000000008000200ffffff6a',
    );
  });

  it('add chain ip t post { type nat hook postrouting priority srcnat - 1; policy drop; }', () => {
    const base = { type: 'nat', hook: 'postrouting', priority: 99, policy: 'drop' } as const;
    expect(sent(new Batch().addChain({ table, name: 'post', base }))[0]?.hex).toBe(
      '02000000060001007400000009000300706f737400000000080007006e6174000800050000000000' +
        '1400048008000100000000040800020000000063',
    );
  });

  it('add set ip t pods { type ipv4_addr; elements = { 10.244.1.10 comment "ns/sleep", 10.244.1.11 } }', () => {
    const elements = [{ key: '10.244.1.10', comment: 'ns/sleep' }, { key: '10.244.1.11' }];
    const [set, members] = sent(new Batch().addSet(pods).addElements(pods, elements));
    expect(set).toMatchObject({
      type: 0xa09,
      flags: 0x401,
      hex:
        '02000000060001007400000009000200706f6473000000000800030000000000080004000000000708000500000000040800' +
        '0a00000000010a000d000004020000000000',
    });
    // nft numbers the elements of a list where the kernel reads NFTA_LIST_ELEM (1) in each: only that differs.
    expect(members).toMatchObject({
      type: 0xa0c,
      hex:
        '02000000060001007400000009000200706f6473000000000800040000000001340003802000018' +
        '00c000180080001000af4010a0f00060000096e732f736c65657000001000' +
        '01800c000180080001000af4010b',
    });
  });

  it('add rule … comment "save-1": the comment as nft keeps it', () => {
    const rule = { table, chain: 'save', expressions: statement.accept(), comment: 'save-1' };
    expect(sent(new Batch().addRule(rule))[0]?.hex).toMatch(/0d0007000007736176652d3100000000$/);
  });
});

describe('Batch', () => {
  it('spreads elements over messages that an attribute can hold, without loss', () => {
    const elements = Array.from({ length: 10_000 }, (_, i) => ({
      key: `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`,
      comment: `uid-${i}-0123456789abcdef0123456789abcdef`,
    }));
    const batch = new Batch().addElements(pods, elements);
    const fake = new FakeNetlink();
    batch.commit(fake);
    expect(fake.requests.length).toBeGreaterThan(5);
    for (const { bytes } of fake.requests) expect(bytes.length).toBeLessThanOrEqual(64 << 10);
    const counts = batch.commands.map((command) => 1 + Number(/and (\d+) more/.exec(command)?.[1]));
    expect(counts.reduce((sum, count) => sum + count)).toBe(10_000);
    expect(batch.commands[0]).toMatch(/^add element ip t pods \{ 10\.0\.0\.0 and /);
  });

  it('names the command at fault, and the kernel’s words', () => {
    const fake = new FakeNetlink(({ index }) => (index === 2 ? 2 : undefined));
    const rule = { table, chain: 'nowhere', expressions: statement.accept(), comment: 'prerouting-8' };
    expect(() => new Batch().addTable(table).addRule(rule).commit(fake)).toThrow(
      expect.objectContaining({
        code: 'ERR_NFTABLES_REJECTED',
        index: 1,
        errno: 2,
        command: 'add rule ip t nowhere "prerouting-8"',
      }),
    );
  });

  it('sends nothing for nothing', () => {
    expect(sent(new Batch())).toEqual([]);
  });

  it.each<[string, () => unknown, string]>([
    ['an empty table name', () => new Batch().addTable({ family: 'ip', name: '' }), 'table.name'],
    ['a name with a space', () => new Batch().addChain({ table, name: 'a b' }), 'chain.name'],
    ['a name of 256', () => new Batch().addSet({ ...pods, name: 'x'.repeat(256) }), 'set.name'],
    ['another family', () => new Batch().addTable({ family: 'arp' as 'ip', name: 't' }), 'table.family'],
    ['a v6 address in a v4 set', () => new Batch().addElements(pods, [{ key: 'fd00::1' }]), 'elements[0].key'],
    ['a host name in a set', () => new Batch().addElements(pods, [{ key: 'example.org' }]), 'elements[0].key'],
    [
      'a comment of 128 bytes',
      () => new Batch().addRule({ table, chain: 'c', expressions: [], comment: 'x'.repeat(128) }),
      'rule.comment',
    ],
    ['a device name of 16 bytes', () => match.iifname('0123456789abcdef'), 'interface'],
    ['a port of 65536', () => statement.tproxy('127.0.0.1', 65536), 'to.port'],
    [
      'a route chain in prerouting',
      () =>
        new Batch().addChain({
          table,
          name: 'c',
          base: { type: 'route', hook: 'prerouting', priority: 0, policy: 'accept' },
        }),
      'chain.base.type',
    ],
  ])('refuses %s, naming the field', (_what, act, field) => {
    expect(act).toThrow(expect.objectContaining({ field }));
  });

  it('is unchanged by a refused command', () => {
    const batch = new Batch().addTable(table);
    const comment = 'x'.repeat(200);
    expect(() => batch.addRule({ table, chain: 'c', expressions: [], comment })).toThrow();
    expect(() => batch.addElements(pods, [{ key: '10.0.0.1' }, { key: '10.0.0.2', comment }])).toThrow();
    expect(batch.commands).toEqual(['add table ip t']);
    const fake = new FakeNetlink();
    batch.commit(fake);
    expect(readMessages(fake.requests[0]!.bytes)).toHaveLength(1);
    expect(fake.requests).toHaveLength(1);
  });
});

const bases = {
  mangle: { type: 'filter', hook: 'prerouting', priority: -150, policy: 'accept' },
  input: { type: 'filter', hook: 'input', priority: 0, policy: 'accept' },
  output: { type: 'filter', hook: 'output', priority: 0, policy: 'accept' },
  prenat: { type: 'nat', hook: 'prerouting', priority: -101, policy: 'accept' },
  postnat: { type: 'nat', hook: 'postrouting', priority: 99, policy: 'accept' },
} as const;

function skeleton(): Batch {
  const batch = new Batch().addTable(table).addSet(pods).addChain({ table, name: 'save' });
  for (const [name, base] of Object.entries(bases)) batch.addChain({ table, name, base });
  return batch;
}

/** nft's JSON without handles, so that two rule sets can be compared. */
function listing(text: string): unknown {
  const { nftables } = JSON.parse(text) as { nftables: Record<string, Record<string, unknown>>[] };
  return nftables
    .filter((item) => item.metainfo === undefined)
    .map((item) => Object.fromEntries(Object.entries(item).map(([kind, value]) => [kind, { ...value, handle: 0 }])));
}

describeRequiring('nftables in the kernel', { root: true, tools: ['nft', 'ip'] }, () => {
  it('every rule of golden.ts, loaded by us, lists as the same rule loaded by nft', async () => {
    await withNamespaces(['ours', 'theirs'], (ours, theirs) => {
      const batch = skeleton();
      for (const { chain, ours: expressions } of golden) batch.addRule({ table, chain, expressions });
      using netlink = openNetlink({ family: 'netfilter', namespace: ours });
      batch.commit(netlink);
      using their = openNetlink({ family: 'netfilter', namespace: theirs });
      skeleton().commit(their);
      for (const { chain, text } of golden) runIn(theirs, 'nft', `add rule ip t ${chain} ${text}`);
      const list = ['nft', '-j', 'list', 'ruleset'] as const;
      expect(listing(runIn(ours, ...list))).toEqual(listing(runIn(theirs, ...list)));
    });
  });

  it('every rule of golden.ts, loaded by nft, is read by us as the builder says it', async () => {
    await withNamespaces(['read'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      skeleton().commit(netlink);
      for (const { chain, text, name } of golden) {
        runIn(namespace, 'nft', `add rule ip t ${chain} ${text} comment "${name}"`);
      }
      const read = new Map(listRules(netlink, table).map((rule) => [rule.comment, rule]));
      for (const { name, chain, ours } of golden) {
        const expected = ours.map((expression) => {
          if (expression.type !== 'lookup') return expression;
          const { setId: _, ...kept } = expression;
          return kept;
        });
        expect({ name, ...pick(read.get(name)) }).toEqual({ name, chain, expressions: bytes(expected) });
      }
    });
  });

  it('ranges and flags of NAT are read, and written as they were', async () => {
    await withNamespaces(['nat'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const texts = [
        'ip protocol tcp dnat to 10.0.0.1-10.0.0.9:80-90 random,persistent',
        'ip protocol tcp redirect to :80-90 fully-random',
        'ip protocol tcp redirect to :80',
        'ip protocol tcp dnat to 10.0.0.1:80',
      ];
      const chain = 'add chain ip t pre { type nat hook prerouting priority -100; }';
      const lines = ['add table ip t', chain, ...texts.map((text) => `add rule ip t pre ${text}`)];
      runIn(namespace, 'nft', lines.join('; '));
      const listed = runIn(namespace, 'nft', 'list', 'ruleset');
      for (const text of texts) expect(listed).toContain(text);
      const rules = listRules(netlink, table);
      const nats = rules.map(({ expressions }) => expressions.at(-1));
      expect(nats).toEqual([
        expect.objectContaining({
          type: 'nat',
          lastAddressRegister: expect.any(Number),
          lastPortRegister: expect.any(Number),
          flags: 12,
        }),
        { type: 'redirect', portRegister: expect.any(Number), lastPortRegister: expect.any(Number), flags: 16 },
        { type: 'redirect', portRegister: expect.any(Number) },
        { type: 'nat', kind: 'dnat', family: 2, addressRegister: expect.any(Number), portRegister: expect.any(Number) },
      ]);
      const batch = new Batch().flushChain({ table, name: 'pre' });
      for (const rule of rules) batch.addRule(rule);
      batch.commit(netlink);
      expect(runIn(namespace, 'nft', 'list', 'ruleset')).toBe(listed);
    });
  });

  it('tells a table that is dormant, puts one to sleep, and wakes it', async () => {
    await withNamespaces(['dormant'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      new Batch().addTable({ ...table, dormant: true }).commit(netlink);
      expect(runIn(namespace, 'nft', 'list', 'ruleset')).toContain('flags dormant');
      expect(listTables(netlink)).toEqual([{ ...table, dormant: true }]);
      new Batch().addTable(table).commit(netlink);
      expect(listTables(netlink)).toEqual([table]);
    });
  });

  it('a set that is there with keys of another type is refused by name, and nothing of the batch is in force', async () => {
    await withNamespaces(['set'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      runIn(namespace, 'nft', 'add table ip t; add set ip t pods { type inet_service; }');
      const before = runIn(namespace, 'nft', 'list', 'ruleset');
      const set = { table, name: 'pods', keyType: 'ipv4_addr' } as const;
      const batch = new Batch()
        .addChain({ table, name: 'new' })
        .addSet(set)
        .addElements(set, [{ key: '10.0.0.1' }]);
      expect(() => batch.commit(netlink)).toThrow(
        expect.objectContaining({
          code: 'ERR_NFTABLES_REJECTED',
          errno: 17,
          command: 'add set ip t pods',
          message: expect.stringContaining('EEXIST'),
        }),
      );
      expect(runIn(namespace, 'nft', 'list', 'ruleset')).toBe(before);
    });
  });

  it('lists tables, chains, sets and elements that nft made', async () => {
    await withNamespaces(['list'], (namespace) => {
      runIn(
        namespace,
        'nft',
        `table ip t {
           set pods { type ipv4_addr; elements = { 10.244.1.10 comment "ns/sleep", 10.244.1.11 } }
           set v6 { type ipv6_addr; elements = { fd00::1 } }
           set ports { type inet_service; elements = { 80, 443 } }
           chain save { }
           chain in { type filter hook input priority filter - 1; policy drop; }
         }
         table inet other { }
         table bridge unknown { }`,
      );
      using netlink = openNetlink({ family: 'netfilter', namespace });
      expect(listTables(netlink)).toEqual([table, { family: 'inet', name: 'other' }]);
      expect(listChains(netlink, table)).toEqual([
        { table, name: 'save' },
        { table, name: 'in', base: { type: 'filter', hook: 'input', priority: -1, policy: 'drop' } },
      ]);
      const sets = listSets(netlink, table);
      expect(sets.map((set) => set.name)).toEqual(['pods', 'v6', 'ports']);
      const elements = sets.map((set) => listElements(netlink, set).sort((a, b) => (a.key < b.key ? -1 : 1)));
      expect(elements).toEqual([
        [{ key: '10.244.1.10', comment: 'ns/sleep' }, { key: '10.244.1.11' }],
        [{ key: 'fd00::1' }],
        [{ key: '443' }, { key: '80' }],
      ]);
    });
  });

  it('shows comments of rules and elements to nft, and counts packets', async () => {
    await withNamespaces(['count'], (namespace) => {
      runIn(namespace, 'ip', 'link', 'set', 'lo', 'up');
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const chain = 'in';
      const base = { type: 'filter', hook: 'input', priority: 0, policy: 'accept' } as const;
      const expressions = [...match.destinationPort('udp', 9), ...statement.counter()];
      new Batch()
        .addTable(table)
        .addChain({ table, name: chain, base })
        .addSet(pods)
        .addElements(pods, [{ key: '10.244.1.10', comment: 'ns/sleep' }])
        .addRule({ table, chain, expressions, comment: 'discard' })
        .commit(netlink);
      // One datagram of 3 bytes: 20 + 8 + 3.
      runIn(namespace, 'bash', '-c', 'echo -n abc > /dev/udp/127.0.0.1/9');
      const [rule] = listRules(netlink, table);
      expect(ruleCounter(rule!)).toMatchObject({ packets: 1, bytes: 31 });
      const text = runIn(namespace, 'nft', 'list', 'ruleset');
      expect(text).toContain('udp dport 9 counter packets 1 bytes 31 comment "discard"');
      expect(text).toContain('10.244.1.10 comment "ns/sleep"');
    });
  });

  it('is atomic: a command that the kernel refuses leaves nothing, and is named', async () => {
    await withNamespaces(['atomic'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const rule = { table, chain: 'save', expressions: statement.jump('nowhere'), comment: 'save-2' };
      const batch = skeleton()
        .addRule({ ...rule, expressions: statement.accept(), comment: 'save-1' })
        .addRule(rule);
      let error: NftablesError | undefined;
      try {
        batch.commit(netlink);
      } catch (caught) {
        error = caught as NftablesError;
      }
      expect(error).toMatchObject({
        code: 'ERR_NFTABLES_REJECTED',
        command: 'add rule ip t save "save-2"',
        errno: 2,
      });
      expect(error?.message).toContain('ENOENT');
      expect(runIn(namespace, 'nft', 'list', 'ruleset')).toBe('');
    });
  });

  it('deletes and flushes what it added: rules by handle, elements, sets, chains, tables', async () => {
    await withNamespaces(['delete'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const elements = [{ key: '10.0.0.1' }, { key: '10.0.0.2' }];
      const rule = { table, chain: 'save', expressions: statement.accept() };
      skeleton()
        .addElements(pods, elements)
        .addRule({ ...rule, comment: 'b' })
        .insertRule({ ...rule, comment: 'a' })
        .commit(netlink);
      const [a, b] = listRules(netlink, table);
      expect([a?.comment, b?.comment]).toEqual(['a', 'b']);
      new Batch().deleteRule(a!).deleteElements(pods, [elements[0]!]).commit(netlink);
      expect(listRules(netlink, table).map(({ comment }) => comment)).toEqual(['b']);
      expect(listElements(netlink, pods)).toEqual([{ key: '10.0.0.2' }]);
      const chain = { table, name: 'save' };
      new Batch().flushSet(pods).deleteSet(pods).flushChain(chain).deleteChain(chain).commit(netlink);
      expect(listSets(netlink, table)).toEqual([]);
      expect(listChains(netlink, table).map(({ name }) => name)).toEqual(Object.keys(bases));
      new Batch().destroyTable(table).commit(netlink);
      new Batch().destroyTable(table).commit(netlink);
      expect(listTables(netlink)).toEqual([]);
      expect(() => new Batch().deleteTable(table).commit(netlink)).toThrow(
        expect.objectContaining({ command: 'delete table ip t', errno: 2 }),
      );
    });
  });

  it('createElements refuses what is there; addElements does not', async () => {
    await withNamespaces(['create'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      new Batch()
        .addTable(table)
        .addSet(pods)
        .addElements(pods, [{ key: '10.0.0.1' }])
        .commit(netlink);
      new Batch().addElements(pods, [{ key: '10.0.0.1' }]).commit(netlink);
      const again = new Batch().createElements(pods, [{ key: '10.0.0.2' }, { key: '10.0.0.1' }]);
      expect(() => again.commit(netlink)).toThrow(expect.objectContaining({ errno: 17 }));
      expect(listElements(netlink, pods)).toEqual([{ key: '10.0.0.1' }]);
    });
  });

  it('10,000 elements with comments go in by one transaction and come back', async () => {
    await withNamespaces(['many'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const elements = Array.from({ length: 10_000 }, (_, i) => ({
        key: `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`,
        comment: `pod-${i}`,
      }));
      new Batch().addTable(table).addSet(pods).addElements(pods, elements).commit(netlink);
      const read = listElements(netlink, pods);
      expect(new Map(read.map(({ key, comment }) => [key, comment]))).toEqual(
        new Map(elements.map(({ key, comment }) => [key, comment])),
      );
    });
  });
});

function pick(rule: { chain: string; expressions: readonly unknown[] } | undefined) {
  return { chain: rule?.chain, expressions: bytes(rule?.expressions ?? []) };
}

function bytes(expressions: readonly unknown[]): unknown {
  return expressions.map((expression) =>
    Object.fromEntries(
      Object.entries(expression as object).map(([key, value]) => [
        key,
        value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value,
      ]),
    ),
  );
}
