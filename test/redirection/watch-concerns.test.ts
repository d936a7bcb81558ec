import { describe, expect, it } from 'vitest';
import { FakeNetlink, type NetlinkMessage } from '../../src/netlink/index.ts';
import { Batch } from '../../src/netlink/nftables/index.ts';
import { addRule } from '../../src/netlink/route/index.ts';
import { nodeMode, podMode } from '../../src/redirection/index.ts';
import { concernsNetwork, concernsOf, concernsRules } from '../../src/redirection/watch-concerns.ts';

const plan = nodeMode({ hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' });
const node = concernsOf(plan, 'node');

/** What `send` sends, as it would be announced: requests and notifications have the same form. */
function announced(send: (netlink: FakeNetlink) => void): NetlinkMessage[] {
  const netlink = new FakeNetlink();
  send(netlink);
  return netlink.requests;
}

const rtmsg = (table: number) => Buffer.from([2, 32, 0, 0, table, 0, 0, 1, 0, 0, 0, 0]);
const tableAttribute = (table: number) => {
  const bytes = Buffer.from([8, 0, 15, 0, 0, 0, 0, 0]);
  bytes.writeUInt32LE(table, 4);
  return bytes;
};
const message = (type: number, payload: Buffer): NetlinkMessage => ({ type, flags: 0, seq: 0, payload });

describe('concernsRules', () => {
  it('is true of everything in the plan’s tables, and of nothing else', () => {
    const commands = (name: string) => {
      const table = { family: 'ip', name } as const;
      const set = { table, name: 'pods', keyType: 'ipv4_addr' } as const;
      return announced((netlink) =>
        new Batch()
          .addTable(table)
          .addSet(set)
          .addElements(set, [{ key: '10.0.0.1' }])
          .addChain({ table, name: 'chain' })
          .addRule({ table, chain: 'chain', expressions: [] })
          .flushChain({ table, name: 'chain' })
          .deleteTable(table)
          .commit(netlink),
      );
    };
    const ours = commands('ztunnel-mangle');
    expect(ours.map((one) => concernsRules(one, node))).toEqual(ours.map(() => true));
    expect(commands('kube-proxy').some((one) => concernsRules(one, node))).toBe(false);
  });

  it('passes over NFT_MSG_NEWGEN, which ends every transaction', () => {
    // NFTA_GEN_ID is attribute 1, as the name of a table is.
    const generation = Buffer.from([0, 0, 0, 0, 8, 0, 1, 0, 0, 0, 0, 1]);
    expect(concernsRules(message((10 << 8) | 15, generation), node)).toBe(false);
  });
});

describe('concernsNetwork', () => {
  it('is true of routes in the plan’s own tables, by header or attribute', () => {
    const route = (...parts: Buffer[]) => concernsNetwork(message(24, Buffer.concat(parts)), node);
    expect([100, 101, 102, 254, 255].map((table) => route(rtmsg(table)))).toEqual([true, true, true, false, false]);
    expect([route(rtmsg(0), tableAttribute(100)), route(rtmsg(252), tableAttribute(1000))]).toEqual([true, false]);
    expect(concernsNetwork(message(25, rtmsg(100)), node)).toBe(true);
  });

  it('is true of the plan’s links at either end, of policy rules and addresses, and not of neighbours', () => {
    const link = (name: string) =>
      message(
        17,
        Buffer.concat([Buffer.alloc(16), Buffer.from([4 + name.length + 1, 0, 3, 0]), Buffer.from(`${name}\0`)]),
      );
    expect(concernsNetwork(link('istioin'), node)).toBe(true);
    expect(concernsNetwork(link('eth0'), node)).toBe(false);
    expect(concernsNetwork(link('pistioin'), concernsOf(plan, 'ztunnel'))).toBe(true);
    const [rule] = announced((netlink) => addRule(netlink, { family: 4, priority: 5, table: 5 }));
    expect(concernsNetwork(rule!, node)).toBe(true);
    expect(concernsNetwork(message(28, Buffer.alloc(12)), node)).toBe(false);
  });

  it('knows the tables of both families in a pod', () => {
    const pod = concernsOf(podMode(), 'pod');
    expect([...pod.tables].sort()).toContain('istio-ambient-nat');
    expect([...pod.routeTables]).toEqual([100]);
  });
});
