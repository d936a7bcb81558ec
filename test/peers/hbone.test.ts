import { hboneProxies } from './hbone-proxies.ts';
import { peerInterop } from './interop.ts';

peerInterop(hboneProxies);
