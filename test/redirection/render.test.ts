import { describe, expect, it } from 'vitest';
import { nodeMode, renderNftables, renderText, ruleText } from '../../src/redirection/index.ts';
import { editRules } from './edit-plan.ts';

const plan = nodeMode({
  hostIp: '172.18.0.2',
  ztunnelIp: '10.244.1.2',
  ztunnelVeth: 'vethza',
  pods: [{ ip: '10.244.1.10', veth: 'vethsleep', comment: 'default/sleep' }],
});

describe('renderNftables', () => {
  it('is one transaction that replaces what an earlier plan left', () => {
    const { commands } = renderNftables(plan, 'node');
    const owned = ['ip', 'ip6'].flatMap((family) =>
      ['raw', 'mangle', 'nat', 'filter'].map((kind) => `${family} ztunnel-${kind}`),
    );
    expect(commands.slice(0, 16)).toEqual(owned.flatMap((table) => [`add table ${table}`, `delete table ${table}`]));
    expect(commands).toContain('add element ip ztunnel-mangle ztunnel-pods-ips { 10.244.1.10 }');
    expect(commands).toContain('add rule ip ztunnel-mangle ztunnel-PREROUTING "prerouting-15"');
    // Rules name chains and sets that must be there before them.
    const lastChain = commands.findLastIndex((command) => command.startsWith('add chain'));
    expect(commands.findIndex((command) => command.startsWith('add rule'))).toBeGreaterThan(lastChain);
  });

  it('puts the drop of a tproxy right behind it', () => {
    const rules = renderNftables(plan, 'ztunnel').commands.filter((command) => command.startsWith('add rule'));
    expect(rules.map((command) => command.split('"')[1])).toEqual([
      'ztunnel-1',
      'ztunnel-1 no-listener',
      'ztunnel-2',
      'ztunnel-2 no-listener',
      'ztunnel-3',
      'ztunnel-3 no-listener',
      'ztunnel-4',
    ]);
  });

  it('of a role that the plan does not have takes tables away, and adds none', () => {
    expect(renderNftables(plan, 'nobody').commands).toHaveLength(16);
  });

  it('refuses a save-mark without a match on its bits, naming the rule', () => {
    const edited = editRules(plan, 'forward-1', (rule) => [{ ...rule, matches: [] }]);
    expect(() => renderNftables(edited, 'node')).toThrow(
      expect.objectContaining({ code: 'ERR_REDIRECTION_INVALID', field: 'forward-1' }),
    );
  });

  it('refuses an id that is there twice: counters are read back by it', () => {
    const edited = editRules(plan, 'forward-1', (rule) => [rule, rule]);
    expect(() => renderNftables(edited, 'node')).toThrow(
      expect.objectContaining({ code: 'ERR_REDIRECTION_INVALID', field: 'node.chains' }),
    );
  });

  it('refuses a set that the side does not have', () => {
    const edited = editRules(plan, 'prerouting-15', (rule) => [
      { ...rule, matches: [{ on: 'source-set', set: 'others' }] },
    ]);
    expect(() => renderNftables(edited, 'node')).toThrow(expect.objectContaining({ field: 'prerouting-15.matches' }));
  });
});

describe('renderText', () => {
  it('shows every rule with its id, in order, and the routes and rules as ip writes them', () => {
    const text = renderText(plan);
    const at = plan.sides
      .flatMap(({ chains }) => chains.flatMap(({ rules }) => rules))
      .map(({ id }) => text.indexOf(`    ${id} `));
    expect(at).not.toContain(-1);
    expect(at).toEqual([...at].sort((a, b) => a - b));
    for (const line of [
      'ip rule  101: from all fwmark 0x100/0x100 lookup 101',
      'ip rule  102: from all fwmark 0x040/0x040 lookup 102',
      'route    table 102 default via 10.244.1.2 dev vethza onlink',
      'route    table 100 local default dev lo',
      'set      ztunnel-pods-ips: 1 pod',
      '10.244.1.10 (default/sleep) behind vethsleep',
      'istioin (veth) to pistioin in ztunnel',
    ]) {
      expect(text).toContain(line);
    }
  });

  it('says every kind of rule in words', () => {
    const dns = nodeMode({
      hostIp: '172.18.0.2',
      ztunnelIp: '10.244.1.2',
      ztunnelVeth: 'vethza',
      captureDns: true,
      hostTraffic: 'local-source',
      tunnel: { kind: 'geneve' },
    });
    const texts = dns.sides.flatMap(({ chains }) => chains.flatMap(({ rules }) => rules.map(ruleText)));
    expect(texts).toContain('from ztunnel-pods-ips, udp port 53: to 10.244.1.2:15053');
    expect(texts).toContain('from this node: set mark 0x220/0x220');
    expect(texts).toContain('not in vethza, connmark 0x210/0x210: set mark 0x040/0x040');
    expect(texts).toContain('in pistioout, tcp: tproxy to 127.0.0.1:15001, set mark 0x400/0xfff, else drop');
    expect(renderText(dns)).toContain('istioin (geneve 1000, port 6081) to 10.244.1.2');
  });

  it('names twenty pods, and counts the rest', () => {
    const list = Array.from({ length: 25 }, (_, i) => ({ ip: `10.0.0.${i}`, veth: 'v' }));
    const text = renderText({ ...plan, pods: { ...plan.pods, list } });
    expect(text).toContain('10.0.0.19');
    expect(text).not.toContain('10.0.0.20');
    expect(text).toContain('and 5 more');
  });
});
