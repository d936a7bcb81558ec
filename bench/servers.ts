import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NetworkNamespace } from '../src/netns/index.ts';
import type { Processes } from './processes.ts';

export const HTTP_PORT = 80;
export const IPERF_PORT = 5201;
const BODY_BYTES = 1024;

/** nginx with a 1 KiB body and iperf3 in a namespace, until {@link Processes} ends them. */
export function startServers(processes: Processes, name: string, namespace: NetworkNamespace, directory: string): void {
  const folder = join(directory, `servers-${name}`);
  mkdirSync(folder, { mode: 0o755 });
  const configuration = join(folder, 'nginx.conf');
  writeFileSync(configuration, nginxConfiguration(folder));
  const log = (program: string) => join(folder, `${program}.log`);
  processes.start(
    `nginx of ${name}`,
    { program: 'nginx', args: ['-p', folder, '-e', log('nginx'), '-c', configuration], namespace },
    log('nginx'),
  );
  processes.start(
    `iperf3 of ${name}`,
    { program: 'iperf3', args: ['-s', '-p', String(IPERF_PORT)], namespace },
    log('iperf3'),
  );
}

/** One process, so that killing it is enough; connections never end by themselves. */
function nginxConfiguration(folder: string): string {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder};`);
  return `daemon off;
master_process off;
pid ${folder}/nginx.pid;
error_log ${folder}/nginx.log crit;
events { worker_connections 16000; multi_accept on; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  ${temporary.join('\n  ')}
  server {
    listen ${HTTP_PORT} backlog=4096;
    location / { default_type text/plain; return 200 "${'x'.repeat(BODY_BYTES)}"; }
  }
}
`;
}
