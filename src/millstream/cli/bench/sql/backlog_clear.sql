delete from millstream.jobs where queue = :'queue';
vacuum (analyze) millstream.jobs;
