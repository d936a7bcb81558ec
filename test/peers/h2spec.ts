import { readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { goFlags } from './certificates.ts';
import type { Proxies } from './interop.ts';
import { Hbonepeer, Peer } from './peer.ts';
import { describeWithPeer } from './programs.ts';

/**
 * What h2spec asks of any web server, and a server of CONNECT alone cannot give (README.md): a body, streams that stay open although they
 * are answered, frames of 16 KiB at most.
 */
const NOT_APPLICABLE = ['generic/2/2', 'generic/2/3', 'http2/4.2/3', 'http2/5.1.2/1'];

/** h2spec against a server of ours, over a relay that does the TLS: it has no client certificate. */
export function h2spec(ours: Proxies): void {
  describeWithPeer(`h2spec → ${ours.name}`, ['hbonepeer', 'h2spec'], () => {
    it('passes all that applies to a server of CONNECT alone', { timeout: 180_000 }, async () => {
      await using server = await ours.startServer();
      const to = ['-hbone', `127.0.0.1:${server.port}`];
      await using relay = await Hbonepeer.start('relay', ...goFlags('client'), ...to);
      const report = join(tmpdir(), `ambient-h2spec-${process.pid}.xml`);
      const args = ['-h', '127.0.0.1', '-p', `${relay.port}`, '-j', report];
      await using spec = new Peer('h2spec', args);
      await spec.ended;
      const { passed, failed, skipped } = readReport(report);
      expect(failed.filter((test) => !NOT_APPLICABLE.includes(test))).toEqual([]);
      expect(passed.length + failed.length + skipped.length).toBe(146);
      // Those that need a body: http2/6.5.3/1, 6.9.1/1, 6.9.2/1 and 6.9.2/2.
      expect(skipped.length).toBeLessThanOrEqual(4);
    });
  });
}

/** The tests of a JUnit report by their names: section, and number within it. */
function readReport(file: string): { passed: string[]; failed: string[]; skipped: string[] } {
  const text = readFileSync(file, 'utf8');
  rmSync(file, { force: true });
  const result = { passed: [] as string[], failed: [] as string[], skipped: [] as string[] };
  for (const [, suite] of text.matchAll(/<testsuite\b([\s\S]*?)<\/testsuite>/g)) {
    let number = 0;
    const section = /\bid="([^"]*)"|\bpackage="([^"]*)"/.exec(suite!);
    for (const [, attributes, body] of suite!.matchAll(/<testcase\b([^>]*?)(?:\/>|>([\s\S]*?)<\/testcase>)/g)) {
      number++;
      const name = `${section?.[2] ?? section?.[1] ?? attributes}/${number}`;
      if (/<(?:failure|error)\b/.test(body ?? '')) result.failed.push(name);
      else if (/<skipped\b/.test(body ?? '')) result.skipped.push(name);
      else result.passed.push(name);
    }
  }
  return result;
}
