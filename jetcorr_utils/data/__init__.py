"""From files to batches: ROOT files → jets → features → cached particle clouds → batches."""
