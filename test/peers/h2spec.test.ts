import { engineProxies } from './engine-proxies.ts';
import { h2spec } from './h2spec.ts';
import { hboneProxies } from './hbone-proxies.ts';

h2spec(hboneProxies);
h2spec(engineProxies);
