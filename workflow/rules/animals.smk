"""What is computed of all recordings of an animal."""


rule animal:
    input:
        lambda wildcards: [f"{RESULTS}/outcomes/{session}.csv" for session in sessions_of(wildcards)],
    output:
        temp(f"{RESULTS}/matches/{{animal}}.recordings.csv"),
    params:
        sessions=sessions_of,
    run:
        with open(output[0], "w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["source", "session"])
            rows.writerows([os.path.abspath(source_of(session)), session] for session in params.sessions)


# Recordings that cannot be matched, such as very short ones, are an outcome too.
rule match:
    input:
        recordings=f"{RESULTS}/matches/{{animal}}.recordings.csv",
        files=lambda wildcards: [file for session in sessions_of(wildcards) for file in files_of(session)],
        model=MODELS,
    output:
        pairs=f"{RESULTS}/matches/{{animal}}.pairs.csv",
        neurons=f"{RESULTS}/matches/{{animal}}.neurons.csv",
    params:
        cache=f"{RESULTS}/matches/{{animal}}.cache",
        options=f"{DEVICE} {READING}",
    log:
        f"{RESULTS}/logs/match/{{animal}}.log",
    threads: config["threads"]
    resources:
        mem_mb=config["memory_mb"],
        runtime=config["minutes"],
        **GPU,
    shell:
        "{{ OMP_NUM_THREADS={threads} nuclr --log-file {log:q} match {input.recordings:q} -o {output.pairs:q} "
        "--neurons {output.neurons:q} --cache {params.cache:q} {params.options} --overwrite -q > /dev/null "
        "|| {{ [ $? -eq 3 ] && touch {output:q}; }}; }}"
