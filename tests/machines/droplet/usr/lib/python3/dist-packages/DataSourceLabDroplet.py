"""cloud-init's own datasource of DigitalOcean, for a machine without firmware tables.

A droplet knows where it is, and its number, from SMBIOS. A container has none, and cloud-init asks
for none there. All else is the real datasource, with the metadata server at its usual address.
"""
from cloudinit import sources
from cloudinit.sources import DataSourceDigitalOcean as real


class DataSourceLabDroplet(real.DataSourceDigitalOcean):
    def _get_sysinfo(self):
        # The number comes with the metadata.
        return (True, None)


def get_datasource_list(depends):
    return sources.list_from_depends(depends, [(DataSourceLabDroplet, (sources.DEP_FILESYSTEM,))])
